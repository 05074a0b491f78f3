"""The variants: what each one changes, and the stages that it trains."""

from dataclasses import dataclass, field
from typing import Any

from experiments.ablations.models import (
    AppearanceOnly,
    LatentPerFrameAdapter,
    LinearAdapter,
    PlainColumns,
    ShallowAdapter,
    StackedChannels,
)
from experiments.ablations.stages import (
    OWN_GEOMETRY,
    AppearanceLoss,
    FixedAlignment,
    LatentPerFrameAlignment,
    LinearStart,
    NoAlignment,
    OwnGeometry,
    OwnGeometryPipeline,
    ScheduledAlignment,
)
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.stages.stage import Stage
from gen3r.training.weights import new_like

ADAPTER, DIFFUSION = ("adapter",), ("diffusion",)
BOTH = (*ADAPTER, *DIFFUSION)
PUBLISHED = {"transformer": {"unseen_frames": "black"}}  # nano's has warped views


@dataclass(frozen=True)
class Variant:
    """One change to nano.

    trains: the stages. What they build on is the starting model's. stages: their classes by name, where not Gen3R's.
    models: the classes of components by name, where not Gen3R's. config: other constructor arguments by component.
    latents: kinds of the latent cache beside both halves.
    """

    change: str
    trains: tuple[str, ...]
    stages: dict[str, type[Stage]] = field(default_factory=dict)
    models: dict[str, type] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipeline: type[Gen3RPipeline] = Gen3RPipeline
    geometry_from: str = "latents"
    latents: tuple[str, ...] = ()

    def remake(self, name: str, module: Any) -> Any:
        """A component of the starting model as this variant has it, with new weights."""
        changes = {**PUBLISHED.get(name, {}), **self.config.get(name, {})}
        if name not in self.models:
            return new_like(module, **changes)
        arguments = {key: value for key, value in module.config.items() if not key.startswith("_")}
        return self.models[name](**(arguments | changes))


def _adapter(change: str, stage: type[Stage] | None = None, model: type | None = None, **config: Any) -> Variant:
    stages, models = ({"adapter": stage} if stage else {}), ({"geo_adapter": model} if model else {})
    return Variant(change, ADAPTER, stages, models, {"geo_adapter": config})


def _denoiser(change: str, model: type | None = None, **fields: Any) -> Variant:
    return Variant(change, DIFFUSION, models={"transformer": model} if model else {}, **fields)


VARIANTS = {
    "kl-adaptive": Variant("nano's adapter: KL about a tenth of the loss, by a power of ten", BOTH),
    "kl-off": Variant("no KL term", BOTH, {"adapter": NoAlignment}),
    "kl-fixed": Variant("KL with the weight 0.01", BOTH, {"adapter": FixedAlignment}),
    "kl-scheduled": Variant(
        "the adaptive weight, rising from 0 over half of the steps", BOTH, {"adapter": ScheduledAlignment}
    ),
    "adapter-narrow": _adapter("hidden width 16, not 32", hidden_dim=16),
    "adapter-wide": _adapter("hidden width 64", hidden_dim=64),
    "adapter-shallow": _adapter("1 residual block per stage, not 2", model=ShallowAdapter),
    "adapter-projection": _adapter("tokens to 32 channels, not 64", resample_scale=60),
    "adapter-every-frame": _adapter("a latent per frame", LatentPerFrameAlignment, LatentPerFrameAdapter),
    "adapter-linear": _adapter("no residual blocks, norms or activations", LinearStart, LinearAdapter),
    "denoiser-joint": _denoiser("Z = [A; G] along width, the same columns in both, as published"),
    "denoiser-plain-columns": _denoiser("RoPE continues the columns of A in G", PlainColumns),
    "denoiser-channels": _denoiser("A and G along channels: half the tokens", StackedChannels),
    "denoiser-appearance": _denoiser(
        "A alone, and VGGT on the frames: half the tokens", AppearanceOnly, stages={"diffusion": AppearanceLoss},
        geometry_from="frames",
    ),
    "denoiser-own-geometry": _denoiser(
        "conditioning frames have their own geometry latents, not zeros", stages={"diffusion": OwnGeometry},
        pipeline=OwnGeometryPipeline, latents=(OWN_GEOMETRY,),
    ),
    "denoiser-warped": _denoiser(
        "warped views in the other frames, as nano's, not black", config={"transformer": {"unseen_frames": "warped"}},
        latents=("warped",),
    ),
}  # fmt: skip


def chosen(names: list[str] | None) -> list[str]:
    """The variants that a name, or the start of names, stands for; all without any."""
    return [name for name in VARIANTS if names is None or any(name.startswith(part) for part in names)]
