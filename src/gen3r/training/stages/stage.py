"""What a stage is to the loop that trains it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor, nn

Batch = dict[str, Any]


class Stage(nn.Module, ABC):
    """What is trained and how: the batch of a step and its loss. Parameters that require gradients are trained.

    settings: what it was made with and learns from, for JSON; checkpoints keep it, to tell when it changes.
    """

    name: str
    settings: Mapping[str, Any] = MappingProxyType({})
    progress: float = 1.0  # of the run, from 0 to 1, at the step that is computed

    @abstractmethod
    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch drawn with `rng` alone, on the CPU: tensors, and lists of texts."""

    @abstractmethod
    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and what to report beside it."""
