"""Fewer and cheaper steps for models that sample in many: what `fast` of a request turns on."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from diffusers import FirstBlockCacheConfig, FlowMatchEulerDiscreteScheduler, MagCacheConfig, UniPCMultistepScheduler

from gen3r.models.transformer import Gen3RTransformer

THRESHOLD = 0.1  # FirstBlockCache: change of the first block's effect from which on the others run
ERROR, SKIPPED = 0.06, 2  # MagCache: of what is left out at most, in at most so many steps in a row

Scheduler = FlowMatchEulerDiscreteScheduler | UniPCMultistepScheduler


def fast_scheduler(own: Scheduler) -> UniPCMultistepScheduler:
    """UniPC on the schedule of a model's own scheduler."""
    if isinstance(own, UniPCMultistepScheduler):
        return own
    return UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=own.config["shift"]
    )


def step_cache(steps: int, mag_ratios: Sequence[float] | None) -> FirstBlockCacheConfig | MagCacheConfig:
    """MagCache where a model has ratios for it, else FirstBlockCache."""
    if not mag_ratios:
        return FirstBlockCacheConfig(threshold=THRESHOLD)
    return MagCacheConfig(
        threshold=ERROR, max_skip_steps=SKIPPED, num_inference_steps=steps, mag_ratios=list(mag_ratios)
    )


@contextmanager
def measured_ratios(transformer: Gen3RTransformer, steps: int) -> Iterator[list[float]]:
    """A list that holds MagCache's ratios after a clip of so many steps is denoised; diffusers prints them."""
    ratios: list[float] = []
    transformer.enable_cache(MagCacheConfig(num_inference_steps=steps, calibrate=True))
    try:
        with redirect_stdout(io.StringIO()) as printed:
            yield ratios
    finally:
        transformer.disable_cache()
    ratios += json.loads(next(line for line in printed.getvalue().splitlines() if line.startswith("[1.0")))
