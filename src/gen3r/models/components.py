"""The components of a model, by name and type."""

from dataclasses import dataclass
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

from gen3r.models.adapter import GeometryAdapter
from gen3r.models.transformer import Gen3RTransformer
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

MODULES = ("vggt", "geo_adapter", "vae", "transformer", "text_encoder", "image_encoder")
_NOT_LOADED: Any = None  # the type of a component is that of the loaded one


@dataclass
class Components:
    """Everything that a pipeline consists of: `Gen3RPipeline(**vars(components))`. What was not loaded is None.

    defaults: clip length, size, steps, guidance and text length of the model.
    """

    vggt: VGGT = _NOT_LOADED
    geo_adapter: GeometryAdapter = _NOT_LOADED
    vae: VideoVAE = _NOT_LOADED
    transformer: Gen3RTransformer = _NOT_LOADED
    text_encoder: UMT5EncoderModel = _NOT_LOADED
    image_encoder: CLIPVisionModelWithProjection = _NOT_LOADED
    tokenizer: PreTrainedTokenizerBase = _NOT_LOADED
    scheduler: FlowMatchEulerDiscreteScheduler | UniPCMultistepScheduler = _NOT_LOADED
    defaults: dict[str, Any] = _NOT_LOADED

    def modules(self) -> dict[str, Any]:
        """The neural networks that are loaded, by name."""
        return {name: module for name in MODULES if (module := getattr(self, name)) is not None}
