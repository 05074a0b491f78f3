"""What a request may be: checks before any work, and what follows from how many of each input there are."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gen3r.cameras.paths import BETWEEN, FREE
from gen3r.errors import InputError

SIZE_STEP = 112


def check_request(frames: int, height: int, width: int, steps: int, guidance: float) -> None:
    """Refuses sizes and counts that no model can serve, before any work.

    Raises:
        InputError: says which, and what to give instead.
    """
    if frames < 1 or (frames - 1) % 4:
        near = max(1, 4 * round((frames - 1) / 4) + 1)
        raise InputError(f"a clip has 4k + 1 frames, not {frames}; try {near}")
    for name, value in (("height", height), ("width", width)):
        if value < SIZE_STEP or value % SIZE_STEP:
            near = max(SIZE_STEP, SIZE_STEP * round(value / SIZE_STEP))
            raise InputError(f"the {name} must be a multiple of {SIZE_STEP}, not {value}; try {near}")
    if steps < 1:
        raise InputError(f"sampling needs at least 1 step, not {steps}")
    if not 0 <= guidance <= 100:
        raise InputError(f"guidance must lie between 0 and 100, not {guidance}; 1 turns it off")


def check_between(cameras: Any, pictures: int) -> None:
    """Refuses the path between two pictures where there are not two.

    Raises:
        InputError: says what to give instead.
    """
    if cameras == BETWEEN and pictures != 2:
        raise InputError(f"the path {BETWEEN} leads from one picture to another; give two, or another path")


def batch_size(**counts: int) -> int:
    """The number of samples, where each kind of input is given once for all, or once a sample.

    Raises:
        InputError: two kinds disagree.
    """
    batch = max(counts.values())
    for name, count in counts.items():
        if count not in (1, batch):
            raise InputError(f"{count} {name.replace('_', ' ')} for {batch} samples; give one, or one a sample")
    return batch


def sample_count(value: Any) -> int:
    """How many samples an input stands for: lists and tensors have one entry a sample, anything else serves all."""
    return len(value) if isinstance(value, (list, tuple, Tensor)) else 1


def task_name(given: int, frames: int) -> str:
    """What a number of given frames asks for."""
    return "all views" if given == frames > 2 else ("text", "one view", "two views")[given]


def usual_cameras(defaults: Mapping[str, Any], given: int, frames: int) -> str:
    """The path of a request that names none: the model's own for the task, or `free`."""
    return defaults["cameras"].get(task_name(given, frames), FREE)
