"""The stages: what each trains, its batches and its losses. They load when they are asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gen3r.training.stages.stage import Stage

# Stage -> its class in the module of the same name, in the order of training.
STAGES = {
    "autoencoder": "AutoencoderStage",
    "geometry": "GeometryStage",
    "adapter": "AdapterStage",
    "text": "TextStage",
    "diffusion": "DiffusionStage",
    "distill": "DistillStage",
    "lora": "LoraStage",
}


def stage_class(name: str) -> "type[Stage]":
    """The class of a stage."""
    return getattr(import_module(f"gen3r.training.stages.{name}"), STAGES[name])
