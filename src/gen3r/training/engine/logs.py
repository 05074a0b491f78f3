"""Where a run's numbers go: metrics.jsonl always, TensorBoard or Weights & Biases where they are asked for."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available, is_wandb_available

from gen3r.errors import InputError
from gen3r.files import write_text

METRICS = "metrics.jsonl"
TRACKERS = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}


class Logs:
    """The open logs of a launch. Every process has one, and the main process writes."""

    def __init__(self, accelerator: Accelerator, file: TextIO | None) -> None:
        self._accelerator, self._file = accelerator, file

    def write(self, step: int, values: dict[str, float]) -> None:
        """A step's numbers, with eight digits."""
        values = {name: float(f"{value:.8g}") for name, value in values.items()}
        self._accelerator.log(values, step=step)
        if self._file:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()


@contextmanager
def open_logs(
    accelerator: Accelerator, folder: Path, name: str, config: dict[str, Any], first_step: int
) -> Iterator[Logs]:
    """A stage's logs. Lines of steps from `first_step` on are removed, for these are done again."""
    accelerator.init_trackers(name, config)
    try:
        if not accelerator.is_main_process:
            yield Logs(accelerator, None)
            return
        path = folder / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        write_text("".join(f"{line}\n" for line in lines if _step(line) < first_step), path)
        with open(path, "a", encoding="utf-8") as file:
            yield Logs(accelerator, file)
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _step(line: str) -> float:
    """The step of a line; infinity where a killed process left half of one."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return float("inf")


def check_trackers(names: Sequence[str]) -> None:
    """Refuses trackers that are unknown or not installed.

    Raises:
        InputError: says which, and what to install.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"the trackers are {', '.join(TRACKERS)}, not {name}")
        if not TRACKERS[name]():
            raise InputError(f"{name} is not installed; pip install {name}")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a stage's metrics."""
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
