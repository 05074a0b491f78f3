"""What a stored model costs, and which tier of memory fits."""

import warnings
from pathlib import Path

import torch

from gen3r.checkpoints.load import model_defaults, open_components, resolve_model
from gen3r.errors import InputError
from gen3r.models.cost import Clip, Stage, count_stages, most_memory
from gen3r.models.memory import TIERS, free_memory

CLEARLY = 1.5  # times the free memory, from which a tier is refused
BYTES_A_PIXEL = 1000  # of a clip; the published size takes 500 at most, nano 450


def own_clip(model: str | Path) -> Clip:
    """What a model makes where nothing else is asked for."""
    defaults = model_defaults(model)
    return Clip(defaults["num_frames"], defaults["height"], defaults["width"])


def model_stages(model: str | Path, dtype: torch.dtype | None, clip: Clip, variant: str | None = None) -> list[Stage]:
    """The stages of making a clip with a stored model, loaded in `dtype`; no weights are read."""
    components, _ = open_components(model, dtype, variant)
    return count_stages(components, clip)


def fitting_tier(
    model: str | Path,
    dtype: torch.dtype | None,
    clip: Clip,
    device: torch.device,
    memory: str = "auto",
    variant: str | None = None,
) -> str:
    """The tier of a choice; of "auto" the first for which a device has the memory. Warns where it has a little less.

    Where there is plenty, nothing is counted.

    Raises:
        InputError: there is no such tier; or it, or the last one, needs clearly more than there is.
    """
    if memory not in ("auto", *TIERS):
        raise InputError(f"memory is auto, {', '.join(TIERS)}, not {memory}")
    free = free_memory(device)
    files = sum(file.stat().st_size for file in resolve_model(model).rglob("*.safetensors"))
    weights = files * (2 if dtype == torch.float32 else 1)
    if 2 * (weights + BYTES_A_PIXEL * clip.frames * clip.height * clip.width) < free:
        return TIERS[0] if memory == "auto" else memory
    stages = model_stages(model, dtype, clip, variant)
    needs = {tier: most_memory(stages, tier) for tier in TIERS}
    fitting = [tier for tier in TIERS if needs[tier] <= free]
    tier = memory if memory in TIERS else (fitting or TIERS[-1:])[0]
    if needs[tier] > free:
        instead = f"--memory {fitting[0]} fits" if fitting else "fewer frames or a smaller size need less"
        text = (
            f"memory {tier} needs about {needs[tier] / 1e9:.1f} GB on {device}, which has {free / 1e9:.1f} GB left; "
            f"{instead}"
        )
        if needs[tier] > CLEARLY * free:
            raise InputError(text)
        warnings.warn(text, stacklevel=3)
    return tier
