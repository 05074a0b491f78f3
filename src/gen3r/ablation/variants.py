"""The variants: what each changes, and which stages show it."""

from dataclasses import dataclass, field
from typing import Any, Literal

ADAPTER, DIFFUSION = ("adapter",), ("diffusion",)
BOTH = (*ADAPTER, *DIFFUSION)


@dataclass(frozen=True)
class Variant:
    """One change to nano.

    stages: those that are trained; what they build on is the starting model's. geo_adapter, transformer: changed
    constructor arguments. kl: the weight of the adapter's alignment term.
    """

    what: str
    stages: tuple[str, ...]
    geo_adapter: dict[str, Any] = field(default_factory=dict)
    transformer: dict[str, Any] = field(default_factory=dict)
    kl: float | Literal["adaptive", "scheduled"] = "adaptive"


VARIANTS = {
    "kl-adaptive": Variant("nano's adapter: KL about a tenth of the loss, by a power of ten", BOTH),
    "kl-off": Variant("no KL term", BOTH, kl=0.0),
    "kl-fixed": Variant("KL with the weight 0.01", BOTH, kl=0.01),
    "kl-scheduled": Variant("the adaptive weight, coming up from 0 over half of the steps", BOTH, kl="scheduled"),
    "adapter-narrow": Variant("hidden width 16, not 32", ADAPTER, geo_adapter={"hidden_dim": 16}),
    "adapter-wide": Variant("hidden width 64", ADAPTER, geo_adapter={"hidden_dim": 64}),
    "adapter-shallow": Variant("1 residual block a stage, not 2", ADAPTER, geo_adapter={"residual_blocks": 1}),
    "adapter-projection": Variant("tokens to 32 channels, not 64", ADAPTER, geo_adapter={"resample_scale": 60}),
    "adapter-every-frame": Variant("a latent a frame", ADAPTER, geo_adapter={"time_down": (False,) * 3}),
    "adapter-linear": Variant("no residual blocks, norms or activations", ADAPTER, geo_adapter={"linear": True}),
    "denoiser-joint": Variant("nano's transformer: Z = [A; G] along width, the same columns in both", DIFFUSION),
    "denoiser-plain-columns": Variant(
        "RoPE counts the columns of G on from those of A", DIFFUSION, transformer={"layout": "plain_columns"}
    ),
    "denoiser-channels": Variant(
        "A and G along channels: half the tokens", DIFFUSION, transformer={"layout": "channels"}
    ),
    "denoiser-appearance": Variant(
        "A alone, and VGGT on the frames: half the tokens", DIFFUSION, transformer={"layout": "appearance"}
    ),
    "denoiser-own-geometry": Variant(
        "given frames bring their own geometry latents, not zeros", DIFFUSION, transformer={"given_geometry": "own"}
    ),
    "denoiser-renders": Variant(
        "other frames show the given ones' points, as nano's, not black", DIFFUSION,
        transformer={"unseen_frames": "warped"},
    ),
}  # fmt: skip


def chosen(names: list[str] | None) -> list[str]:
    """The variants that a name, or the start of names, stands for; all without any."""
    return [name for name in VARIANTS if names is None or any(name.startswith(part) for part in names)]
