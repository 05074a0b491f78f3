"""The latent cache: what the frozen models make of every clip, computed once and stored for training.

A folder holds shards of several kinds. Each shard is marked with what made it. One kind can be made while the models of
another are still in training, and training refuses a shard that the present models would not make.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gen3r.checkpoints.identity import component_hash
from gen3r.data.records import ClipSource
from gen3r.data.shards import has_room, open_shard
from gen3r.errors import InputError
from gen3r.models.components import Components

HALVES = ("appearance", "geometry")
# The kinds of shards, and the components that make them. Only transformers with warped views need `warped`, and only
# training with frozen encoders needs `embeddings`.
KINDS = {
    "appearance": ("vae",),
    "geometry": ("vggt", "geo_adapter"),
    "warped": ("vae", "vggt", "geo_adapter"),
    "embeddings": ("text_encoder", "image_encoder", "tokenizer"),
}
PROMPTS = ("prompt_embeds", "negative_prompt_embeds")  # they differ in length

FORMAT = 2  # 1 stored log-variances
# Kinds of format 1 by their present names, and the words of the commands that made them.
_OLD_KINDS = {"rendered": "warped", "contexts": "embeddings", "given": None}
_OLD_WORDS = {f"{kind}-latents": "latents" for kind in (*KINDS, *_OLD_KINDS)}
_OLD_WORDS |= {"--contexts": "--embeddings", "--stills": "--single-frame"}


def kinds_of(transformer: Mapping[str, Any]) -> list[str]:
    """The kinds that a transformer of this configuration is trained on, whatever its encoders."""
    return [*HALVES, "warped"] if transformer.get("unseen_frames", "black") != "black" else [*HALVES]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What made a shard.

    models: hashes by component. shape: frames, height and width of its clips. source: fingerprint of its clips.
    command: what makes it again.
    """

    models: dict[str, str]
    shape: tuple[int, int, int]
    source: str
    command: str = ""
    format: int = FORMAT

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Self:
        """The mark in a header, or one that agrees with nothing."""
        mark = {"models": {}, "shape": (), "source": "", "format": 1, **json.loads(metadata.get("mark", "{}"))}
        return cls(**{**mark, "shape": tuple(mark["shape"])})

    def difference(self, models: Mapping[str, str], shape: tuple[int, int, int], source: str | None) -> str:
        """How this is not a shard of these models, this shape and, unless it is None, this source; "" if it is."""
        if self.format != FORMAT:
            return "was made by an older version of gen3r"
        for name, wanted in models.items():
            if (found := self.models.get(name, "unknown")) != wanted:
                return f"was made with another {name} ({found[:8]}, not {wanted[:8]})"
        if self.shape != shape:
            return "holds clips of {}, not {}".format(*(" x ".join(map(str, s)) for s in (self.shape, shape)))
        return "" if source in (None, self.source) else "was made from other clips"


def model_hashes(kinds: Sequence[str], components: Components, text_length: int) -> dict[str, str]:
    """The hashes of the components that make these kinds. Prompts are cut to `text_length` tokens."""
    names = {name for kind in kinds for name in KINDS[kind]}
    hashes = {name: component_hash(getattr(components, name)) for name in sorted(names)}
    if "tokenizer" in hashes:
        hashes["tokenizer"] = f"{text_length}-{hashes['tokenizer']}"
    return hashes


def shard_path(folder: Path, kind: str, start: int) -> Path:
    """The shard of a kind whose first clip has this number."""
    return Path(folder) / f"{kind}-{start:06d}.safetensors"


def shards_of(folder: Path, kind: str) -> dict[int, Path]:
    """The shards of a kind in a folder by the number of their first clip, in order."""
    paths = sorted(Path(folder).glob(f"{kind}-*.safetensors"))
    return {int(path.stem.removeprefix(f"{kind}-")): path for path in paths}


def kinds_in(folder: Path) -> list[str]:
    """Both halves, and the other kinds in a folder.

    Raises:
        InputError: a half is missing, or a kind is one of an older version. The line says which command makes it.
    """
    for old, new in _OLD_KINDS.items():
        for path in shards_of(folder, old).values():
            again = f", and make {new} latents with: {_command_again(path, new)}" if new else ""
            raise InputError(f"{path} was made by an older version of gen3r; remove {folder}/{old}-*{again}")
    for half in HALVES:
        if not shards_of(folder, half):
            raise InputError(f"{folder} holds no {half} latents; make them with: {make_command(folder, half)}")
    return [kind for kind in KINDS if shards_of(folder, kind)]


def make_command(folder: Path, kind: str) -> str:
    """The command that makes a kind of latents for a run, whose folder is the one above (or above single_frame/)."""
    run = Path(folder).parent
    if kind == "embeddings":
        return shlex.join(["gen3r", "data", "encode", str(run / "train"), str(folder), "--embeddings", "--overwrite"])
    single = run.name == "single_frame"
    command = ["gen3r", "train", "latents", "--folder", str(run.parent if single else run)]
    return shlex.join([*command, "--single-frame"] if single else command)


def _command_again(path: Path, kind: str) -> str:
    """The command that makes a shard again: the one in its mark, in today's words."""
    command = Mark.of(open_shard(path).metadata()).command
    words = [_OLD_WORDS.get(word, word) for word in shlex.split(command)]
    return shlex.join(words) if words else make_command(path.parent, kind)


class LatentCache:
    """The encoded clips of a folder by number, read when they are asked for.

    models: the hashes (`model_hashes`) that the shards of all kinds in the folder (`kinds_in`) must have. shape: the
    frames, height and width that the clips must have. source: the clips that it must hold, if they are at hand.

    Raises:
        InputError: a half or a shard is missing, or a shard was made from something else. The line says which one, and
            the command that makes it again.
    """

    def __init__(
        self, folder: Path, models: Mapping[str, str], shape: tuple[int, int, int], source: ClipSource | None = None
    ) -> None:
        self.folder, self.kinds, self.shape = folder, kinds_in(folder), shape
        self.captions: list[str] = []
        self._bytes = 0
        self._held: dict[str, Tensor] = {}
        self._shards: list[list[Any]] = []  # the files of the same clips
        self._index: list[tuple[int, int]] = []
        paths = {kind: shards_of(folder, kind) for kind in self.kinds}
        for start in sorted(set().union(*paths.values())):
            missing = [kind for kind in self.kinds if start not in paths[kind]]
            if missing or start != len(self):
                raise InputError(
                    f"{folder} lacks {(missing or self.kinds)[0]} latents of clips from {len(self)} on; finish the "
                    "command that made the others"
                )
            self._add({kind: paths[kind][start] for kind in self.kinds}, models, source)

    def _add(self, paths: Mapping[str, Path], models: Mapping[str, str], source: ClipSource | None) -> None:
        """Opens the files of the next clips, and refuses those that were made from something else."""
        files = {kind: open_shard(path) for kind, path in paths.items()}
        captions = json.loads(files["appearance"].metadata()["captions"])
        clips = range(len(self), len(self) + len(captions))
        expected = None
        if source is not None:
            expected = source.fingerprint(clips) if clips.stop <= len(source) else "more clips than there are"
        for kind, file in files.items():
            mark = Mark.of(file.metadata())
            if difference := mark.difference({name: models[name] for name in KINDS[kind]}, self.shape, expected):
                again = _command_again(paths[kind], kind)
                raise InputError(f"{paths[kind]} {difference}; remove it, or make it again with: {again}")
            expected = mark.source
        self._index += [(len(self._shards), row) for row in range(len(captions))]
        self._shards.append([*files.values()])
        self._bytes += sum(path.stat().st_size for path in paths.values())
        self.captions += captions

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """The tensors of a clip, as `latent_cache.encode` makes them."""
        shard, row = self._index[number]
        return {k: file.get_slice(k)[row] for file in self._shards[shard] for k in file.keys()}

    def hold(self, device: torch.device) -> None:
        """Keeps all rows in an accelerator's memory, for `take`, if a third of its free memory holds them."""
        if "embeddings" not in self.kinds and has_room(device, self._bytes):
            names = [(k, n) for n, file in enumerate(self._shards[0]) for k in file.keys()]
            self._held = {k: torch.cat([files[n].get_tensor(k).to(device) for files in self._shards]) for k, n in names}

    def take(self, index: Tensor) -> dict[str, Any]:
        """The rows of the clips `index` [B]: float32 tensors [B, ...], such as appearance [B, 16, f, h, w], on the
        device that holds them; lists of tensors for embeddings of prompts.
        """
        if self._held:
            index = index.to(self._held["appearance"].device)
            return {k: v[index].float() for k, v in self._held.items()}
        rows = [self[i] for i in index.tolist()]
        taken = {k: [row[k] for row in rows] for k in rows[0]}
        return {k: v if k in PROMPTS else torch.stack(v).float() for k, v in taken.items()}


def joint_latents(rows: Mapping[str, Tensor]) -> Tensor:
    """Z = [A; G] of rows of a `LatentCache`: [B, 16, f, h, 2w]."""
    return torch.cat([rows[half] for half in HALVES], dim=-1)
