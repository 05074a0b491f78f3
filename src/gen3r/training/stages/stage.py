"""What a stage is to the loop that trains it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

Batch = dict[str, Any]


class Stage(nn.Module, ABC):
    """What is trained and how: the batch of a step and its loss. Parameters that require gradients are trained.

    settings: what it was made with and learns from, for JSON; checkpoints keep it, to tell when it changes.
    outside_muon: parts of the names of matrices that AdamW steps: embeddings, last layers, and VGGT's camera head, whose
        matrices see one token per frame.
    fast_parameters: parts of the names of AdamW's parameters, and the factors of their learning rates. What T5's
        encoders add to attention scores by the distance of two words must reach 5 or more to count.
    """

    name: str
    outside_muon: ClassVar[tuple[str, ...]] = (
        "embed_tokens", "shared", "embedding", "output_conv2", "camera_head", "proj_out", "gamma", "table",
    )  # fmt: skip
    fast_parameters: ClassVar[Mapping[str, float]] = MappingProxyType({"relative_attention_bias": 10.0})
    settings: Mapping[str, Any] = MappingProxyType({})
    progress: float = 1.0  # of the run, from 0 to 1, at the step that is computed

    @abstractmethod
    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch drawn with `rng` alone, on the CPU: tensors, and lists of texts."""

    @abstractmethod
    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and what to report beside it."""
