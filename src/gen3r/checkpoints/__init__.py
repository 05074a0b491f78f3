"""Checkpoints: the published layout and our own pipeline folders, loaded strictly, never unpickled."""

from gen3r.checkpoints.geometry import find_geometry
from gen3r.checkpoints.load import (
    convert,
    load_components,
    model_defaults,
    open_components,
    resolve_model,
    store_defaults,
)
from gen3r.checkpoints.published import published_tensor_shapes

__all__ = [
    "convert", "find_geometry", "load_components", "model_defaults", "open_components", "published_tensor_shapes",
    "resolve_model", "store_defaults",
]  # fmt: skip
