"""What a component is, in one word: the same numbers in the same configuration have the same hash."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diffusers import ModelMixin
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHUNK = 1 << 24  # numbers that are hashed at once, so that no large tensor is copied whole
# Arguments that classes got later, and what they are in models from before.
ADDED = {
    "residual_blocks": 2, "time_down": (False, True, True), "linear": False, "layout": "shared_columns",
    "given_geometry": "zeros", "unseen_frames": "black",
}  # fmt: skip
_INCIDENTAL = ("architectures", "dtype", "torch_dtype", "transformers_version")


def component_hash(component: ModelMixin | PreTrainedModel | PreTrainedTokenizerBase) -> str:
    """A hash of a model's weights and configuration, or of a tokenizer's vocabulary.

    Weights count by their values: a model stored in bfloat16 is the same one once loaded as float32. Nothing but the
    names, shapes and values of weights and buffers and the configuration counts: no file, device, library or dropout,
    and no argument that a later version added, where it leaves the model as it was.
    """
    whole = hashlib.sha256(type(component).__name__.encode())
    if isinstance(component, PreTrainedTokenizerBase):
        whole.update(_json({"vocabulary": component.get_vocab(), "special": component.all_special_ids}))
        return whole.hexdigest()
    whole.update(_json(_configuration(component)))
    tensors = component.state_dict()
    names = sorted(tensors)
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock
        for name, digest in zip(names, pool.map(_tensor_digest, (tensors[n] for n in names)), strict=True):
            whole.update(_json([name, list(tensors[name].shape)]))
            whole.update(digest)
    return whole.hexdigest()


def _configuration(model: ModelMixin | PreTrainedModel) -> dict[str, Any]:
    config = model.config.to_dict() if isinstance(model, PreTrainedModel) else dict(model.config)
    ignored = (*_INCIDENTAL, *(k for k in config if k.startswith("_") or "dropout" in k))
    changed = variations(config)
    return {k: v for k, v in config.items() if k not in ignored and (k not in ADDED or k in changed)}


def variations(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in which a component is none of the published architecture."""
    return {k: config[k] for k, v in ADDED.items() if k in config and _json(config[k]) != _json(v)}


def _tensor_digest(tensor: Tensor) -> bytes:
    digest = hashlib.sha256()
    for chunk in tensor.detach().flatten().split(CHUNK):
        numbers = chunk.float() if chunk.is_floating_point() else chunk
        digest.update(numbers.cpu().numpy().data)
    return digest.digest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
