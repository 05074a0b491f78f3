"""Which safetensors files of a folder hold a component's weights, and their tensors."""

import json
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gen3r.errors import InputError, refuse_pointer
from gen3r.files import parse_json, read_text

USUAL = ("diffusion_pytorch_model", "model")  # the names that diffusers and transformers give
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
Wanted = dict[str, list[str] | None]  # file -> the tensors that are read from it; None for all


def open_tensors(place: Path, variant: str | None = None) -> dict[str, Tensor]:
    """All tensors of a component, mapped from disk, not read.

    The index says which files belong to it. Without one it is the file of the usual name, or a whole set of shards, or
    the only file. Others are named in a warning and not read; hidden files, as some systems add, are nobody's.

    variant: as in diffusers, "fp16" for `model.fp16.safetensors`; the plain files where a component has no such ones.

    Raises:
        InputError: there is no such file, it is damaged or a pickle, or the index or a shard is not whole.
    """
    wanted = weight_files(place, variant)
    tensors: dict[str, Tensor] = {}
    for name, keys in wanted.items():
        try:
            with safe_open(str(place / name), framework="pt") as handle:
                tensors.update({key: handle.get_tensor(key) for key in keys or handle.keys()})
        except (SafetensorError, OSError) as error:
            refuse_pointer(place / name)
            raise InputError(f"{place / name} is damaged ({error}); fetch it again") from error
    return tensors


def weight_files(place: Path, variant: str | None = None) -> Wanted:
    """The files of `open_tensors`, which it warns about and raises for, and the tensors to read from each."""
    if not place.is_dir():
        raise InputError(f"{place} is missing; the folder is not a complete model")
    names = sorted(path.name for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    files = [name for name in names if name.endswith(".safetensors")]
    wanted = _find(place, names, f".{variant}") if variant else None
    wanted = wanted or _find(place, names, "")
    if wanted is None and len(files) == 1:
        wanted = Wanted({files[0]: None})
    if wanted is None:
        raise _none(place, names, files)
    strays = [name for name in files if name not in wanted]
    if strays:
        warnings.warn(f"{place}: {', '.join(strays)} not read; the weights are {', '.join(wanted)}", stacklevel=2)
    return wanted


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies in a file: the first byte, and how many to the last one; its layout, stored type and type."""

    file: Path
    start: int
    length: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    stored: torch.dtype
    dtype: torch.dtype


class StoredWeights(Mapping[str, Tensor]):
    """A component's weights by our names, each read from its file whenever it is asked for."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self.slots = dict(slots)
        self._checked: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.mapped(name).to(self.slots[name].dtype, copy=True)  # a mapping keeps its file open
        if name not in self._checked:
            check_finite(name, tensor, self.slots[name].file)
            self._checked.add(name)
        return tensor

    def mapped(self, name: str) -> Tensor:
        """A tensor in its stored type, of which only what is used is read."""
        slot = self.slots[name]
        content = torch.from_numpy(np.memmap(slot.file, np.uint8, "c", slot.start, (slot.length,)))
        return content.view(slot.stored).as_strided(slot.shape, slot.stride)

    def __iter__(self) -> Iterator[str]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)


def find_slots(
    place: Path, opened: dict[str, Tensor], tensors: dict[str, Tensor], variant: str | None
) -> dict[str, Slot]:
    """Where in a folder's files the tensors lie.

    opened: as `open_tensors` gave them. tensors: the same, or views of them, by any names.
    """
    starts: dict[str, tuple[Path, int]] = {}
    for file in weight_files(place, variant):
        with (place / file).open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length))
        starts |= {k: (place / file, 8 + length + v["data_offsets"][0]) for k, v in header.items() if k in opened}
    order = sorted(opened, key=lambda key: opened[key].data_ptr())
    addresses = [opened[key].data_ptr() for key in order]
    slots = {}
    for name, tensor in tensors.items():
        whole = order[bisect_right(addresses, tensor.data_ptr()) - 1]
        file, start = starts[whole]
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        slots[name] = Slot(
            file, start + tensor.data_ptr() - opened[whole].data_ptr(), (last + 1) * tensor.element_size(),
            tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.dtype,
        )  # fmt: skip
    return slots


def check_finite(name: str, tensor: Tensor, place: Path) -> None:
    """Refuses a tensor with values that are not finite.

    Raises:
        InputError: it has such values.
    """
    if tensor.numel() and not all(x.isfinite() for x in tensor.aminmax()):
        raise InputError(f"{place}: tensor {name} holds values that are not finite in {tensor.dtype}; "
                         "fetch the model again, or load it in float32 or bfloat16")  # fmt: skip


def has_variant(place: Path, variant: str) -> bool:
    """Whether a component has files of a variant."""
    return place.is_dir() and _find(place, sorted(path.name for path in place.iterdir()), f".{variant}") is not None


def _find(place: Path, names: list[str], tag: str) -> Wanted | None:
    """What belongs together by an index, by the usual name or as a set of shards, of files with a variant's tag."""
    tag = re.escape(tag)
    indices = _matching(rf"([^.]+)(?:{tag}\.safetensors\.index|\.safetensors\.index{tag})\.json", names)
    if indices:
        return _indexed(place / min(indices, key=lambda name: (not name.startswith(USUAL), name)))
    for name in USUAL:
        if single := _matching(rf"{name}{tag}\.safetensors", names):
            return {single[0]: None}
    shards = _matching(rf"[^.]+{tag}-\d+-of-\d+\.safetensors", names)
    for kind in sorted({re.sub(r"-\d+-of-", "-*-of-", name) for name in shards}):
        group = [name for name in shards if re.sub(r"-\d+-of-", "-*-of-", name) == kind]
        if len(group) == int(kind.rpartition("-of-")[2].split(".")[0]):
            return dict.fromkeys(group)
    return None


def _matching(pattern: str, names: list[str]) -> list[str]:
    return [name for name in names if re.fullmatch(pattern, name)]


def _indexed(index: Path) -> Wanted:
    """The files of an index, which may only lie beside it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} has no weight_map; fetch the model again")
    wanted: dict[str, list[str] | None] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index} names {name!r}, which is no safetensors file beside it; fetch the model again")
        if name not in wanted and not (index.parent / name).is_file():
            raise InputError(f"{index.parent} lacks {name}, which {index.name} names; fetch the model again")
        wanted[name] = [*(wanted.get(name) or ()), tensor]
    return wanted


def _none(place: Path, names: list[str], files: list[str]) -> InputError:
    """The error of a folder without weights."""
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if files:
        return InputError(
            f"{place} holds {', '.join(files)} without an index and without {USUAL[0]}.safetensors; keep one model"
        )
    if pickles:
        return InputError(f"{place / pickles[0]} is a pickle, which can run code; convert it to safetensors first")
    return InputError(f"{place} holds no .safetensors file; the folder is not a complete model")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; the folder is not a complete model")
    data = parse_json(read_text(path, "JSON file"), path)
    if not isinstance(data, dict):
        raise InputError(f"{path} is no JSON object but {json.dumps(data)[:40]}; fetch the model again")
    return data
