"""Where a run's numbers go: metrics.jsonl always, TensorBoard or Weights & Biases where they are asked for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process
from accelerate.utils import is_tensorboard_available, is_wandb_available

from gen3r.errors import InputError
from gen3r.files import whole_file

METRICS = "metrics.jsonl"
TRACKERS = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}


class JsonLines(GeneralTracker):
    """One JSON object a line. Lines of steps that are done again, from `first_step` on, are removed at the start."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path, self.first_step = folder / METRICS, 0
        self._file: Any = None

    @property
    def tracker(self) -> Any:
        """The open file."""
        return self._file

    @on_main_process
    def start(self) -> None:
        """Opens the file."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step(line) < self.first_step]
        with whole_file(self.path) as partial:
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    @on_main_process
    def log(self, values: dict, step: int | None = None, **_: Any) -> None:
        """Writes a line at once."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    @on_main_process
    def finish(self) -> None:
        """Closes the file."""
        self._file.close()


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
