"""What happens when a loss or a gradient is not finite: the step is skipped, and the first such batch is kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from gen3r.errors import InputError
from gen3r.files import write_tensors
from gen3r.training.stages.stage import Batch


@dataclass
class NonFiniteGuard:
    """Counts the steps that were skipped; every process has its own, and all count the same."""

    folder: Path
    limit: int
    rank: int = 0
    skipped: int = 0
    in_a_row: int = 0
    _kept: Path | None = field(default=None, init=False)

    def accepts(self, step: int, finite: bool, batches: Sequence[Batch], noise_seeds: Sequence[int]) -> bool:
        """Whether the step may change the weights.

        Raises:
            InputError: `limit` steps in a row may not.
        """
        if finite:
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self._kept is None:
            self._kept = self.folder / f"nonfinite-{step:07d}-{self.rank}.safetensors"
            save_batches(self._kept, batches, noise_seeds)
        if self.in_a_row >= self.limit:
            raise InputError(
                f"the loss or its gradient was not finite in {self.in_a_row} steps in a row, up to {step}; the first "
                f"batch is in {self._kept}; go on from the checkpoint with a lower --learning-rate"
            )
        return False


def save_batches(path: Path, batches: Sequence[Batch], noise_seeds: Sequence[int]) -> None:
    """The micro-batches of a step: tensors as `part/name`; texts, and the seeds of the noise, in the header."""
    items = [(f"{part}/{name}", value) for part, batch in enumerate(batches) for name, value in batch.items()]
    tensors = {name: value.contiguous() for name, value in items if isinstance(value, Tensor)}
    texts = {name: json.dumps(value) for name, value in items if not isinstance(value, Tensor)}
    write_tensors(tensors, path, {**texts, "noise_seeds": json.dumps(list(noise_seeds))})
