"""Hashes of models: of a component, equal for equal weights in an equal configuration; of the files of a folder."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gen3r.files import file_hash

CHUNK = 1 << 24  # numbers hashed at once, so that no large tensor is copied whole
PARALLEL = 1 << 26  # numbers of a model from which threads are faster than one alone
_READ = (".json", ".safetensors", ".model", ".txt")
_INCIDENTAL = ("architectures", "dtype", "torch_dtype", "transformers_version")


def component_hash(component: ModelMixin | PreTrainedModel | PreTrainedTokenizerBase) -> str:
    """A hash of a model's weights and configuration, or of a tokenizer's vocabulary.

    Names, shapes and values of weights and buffers count, and the configuration without dropout. Files, devices, types
    and library versions do not: a model stored in bfloat16 has the same hash once it is loaded as float32.
    """
    whole = hashlib.sha256(type(component).__name__.encode())
    if isinstance(component, PreTrainedTokenizerBase):
        whole.update(_json({"vocabulary": component.get_vocab(), "special": component.all_special_ids}))
        return whole.hexdigest()
    whole.update(_json(_configuration(component)))
    tensors = component.state_dict()
    names = sorted(tensors)
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock
        each = pool.map if sum(t.numel() for t in tensors.values()) >= PARALLEL else map
        for name, digest in zip(names, each(_tensor_digest, (tensors[n] for n in names)), strict=True):
            whole.update(_json([name, list(tensors[name].shape)]))
            whole.update(digest)
    return whole.hexdigest()


def files_hash(folder: Path) -> str:
    """A hash of all that is read of a model folder: its safetensors, JSON and vocabulary files, with their names.

    folder: or one file.
    """
    whole = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.suffix in _READ)
    for path in files:
        whole.update(_json([path.name if path == folder else path.relative_to(folder).as_posix(), file_hash(path)]))
    return whole.hexdigest()


def _configuration(model: ModelMixin | PreTrainedModel) -> dict[str, Any]:
    config = model.config.to_dict() if isinstance(model, PreTrainedModel) else dict(model.config)
    return {k: v for k, v in config.items() if k not in _INCIDENTAL and not k.startswith("_") and "dropout" not in k}


def _tensor_digest(tensor: Tensor) -> bytes:
    digest = hashlib.sha256()
    for chunk in tensor.detach().flatten().split(CHUNK):
        numbers = chunk.float() if chunk.is_floating_point() else chunk
        digest.update(numbers.cpu().numpy().data)
    return digest.digest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
