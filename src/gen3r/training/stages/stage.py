"""The interface between a stage, the run that it belongs to, and the engine that trains it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:
    from gen3r.data.records import Clip
    from gen3r.models.components import Components
    from gen3r.models.presets import ModelConfig
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.training.run import Run

Batch = dict[str, Any]
Row = tuple[str, Tensor]  # a label, and images uint8 [F, H, W, 3]


class Stage(nn.Module, ABC):
    """The modules of a stage, its batches and its loss. Parameters that require gradients are trained.

    trains: the components whose weights the stage makes. It holds each as an attribute of that name. needs: the
        components, and "tokenizer", that it takes as finished.
    outside_muon: parts of the names of matrices that AdamW steps: embeddings, last layers, and VGGT's camera head,
        whose matrices see one token per frame.
    fast_parameters: parts of the names of AdamW's parameters, and the factors of their learning rates. The attention
        bias of T5's encoders, by the distance of two words, must reach 5 or more to count.
    settings: the configuration for JSON; checkpoints keep it, to report changes.
    components: everything that the stage was made from.
    """

    name: ClassVar[str]
    trains: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    outside_muon: ClassVar[tuple[str, ...]] = (
        "embed_tokens", "shared", "embedding", "output_conv2", "camera_head", "proj_out", "gamma", "table",
    )  # fmt: skip
    fast_parameters: ClassVar[Mapping[str, float]] = MappingProxyType({"relative_attention_bias": 10.0})
    settings: Mapping[str, Any] = MappingProxyType({})
    components: "Components"

    @classmethod
    def of(cls, run: "Run", components: "Components", config: Any) -> Self:
        """The stage of a run, on its clips or latents. config: the stage's own configuration in `stages.config`.

        Raises:
            InputError: the run lacks what the stage needs.
        """
        return cls(components, run.held_clips(), config)

    @abstractmethod
    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch drawn with `rng` alone, on the CPU: tensors, and lists of texts."""

    @abstractmethod
    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and numbers to report beside it."""

    def prepare(self, run: "Run") -> None:
        """Work before the first step of a launch. A dry run leaves it out."""

    def finish(self, run: "Run") -> None:
        """Work of the main process after the last step."""

    def sheet_rows(self, pipe: "Gen3RPipeline", clip: "Clip") -> list[Row]:
        """The stage's output for a held-out clip, for sample sheets. pipe: the components in training."""
        return []

    @classmethod
    def sampling(cls, model: "ModelConfig") -> "ModelConfig":
        """The configuration with which the stage's model samples."""
        return model
