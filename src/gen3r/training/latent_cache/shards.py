"""The latent cache: what the diffusion stage needs of every clip, encoded once by the frozen models.

Shards of three kinds lie side by side, each marked with what made it, so that one kind can be made while the models of
another are still in training, and none is trained on that the present models would not give.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gen3r.checkpoints.identity import component_hash
from gen3r.data.records import ClipSource
from gen3r.data.shards import has_room, open_shard
from gen3r.errors import InputError

# The kinds of shards and the components that make them. Contexts are left out where the encoders are trained along,
# the geometry of given frames by themselves and their renders where the transformer is not told them.
HALVES = {"appearance": ("vae",), "geometry": ("vggt", "geo_adapter")}
KINDS = {
    **HALVES, "given": HALVES["geometry"], "rendered": ("vae", *HALVES["geometry"]),
    "contexts": ("text_encoder", "image_encoder", "tokenizer"),
}  # fmt: skip

TEXTS = ("text", "no_text")


def kinds_of(transformer: Mapping[str, Any]) -> list[str]:
    """The kinds that a transformer of this configuration is trained on, whatever its encoders."""
    given = ["given"] if transformer.get("given_geometry") == "own" else []
    rendered = ["rendered"] if transformer.get("unseen_frames") == "warped" else []
    return [*HALVES, *given, *rendered]


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

    def metadata(self, captions: list[str]) -> dict[str, str]:
        """The header of a shard's file."""
        return {"captions": json.dumps(captions), "mark": json.dumps(asdict(self))}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Self:
        """The mark in a header; one that agrees with nothing where there is none."""
        mark = json.loads(metadata.get("mark", '{"models": {}, "shape": [0, 0, 0], "source": ""}'))
        return cls(**{**mark, "shape": tuple(mark["shape"])})

    def difference(self, models: Mapping[str, str], shape: tuple[int, int, int], source: str | None) -> str:
        """In what this is not a shard of these models, shape and, unless it is None, source; "" where it is."""
        for name, wanted in models.items():
            if (found := self.models.get(name, "unknown")) != wanted:
                return f"was made with another {name} ({found[:8]}, not {wanted[:8]})"
        if self.shape != shape:
            return f"holds clips of {_by(self.shape)}, not {_by(shape)}"
        return "" if source in (None, self.source) else "was made from other clips"


def model_hashes(kind: str, parts: Mapping[str, Any], text_length: int) -> dict[str, str]:
    """The hashes of the components that make a kind; prompts are cut to `text_length` tokens."""
    hashes = {name: component_hash(parts[name]) for name in KINDS[kind]}
    if "tokenizer" in hashes:
        hashes["tokenizer"] = f"{text_length}-{hashes['tokenizer']}"
    return hashes


def shards_of(folder: Path, kind: str) -> dict[int, Path]:
    """The shards of a kind in a folder by the number of their first clip, in order."""
    paths = sorted(Path(folder).glob(f"{kind}-*.safetensors"))
    return {int(path.stem.removeprefix(f"{kind}-")): path for path in paths}


def kinds_in(folder: Path) -> list[str]:
    """Both halves, and what else there is.

    Raises:
        InputError: a half is missing.
    """
    for half in HALVES:
        if not shards_of(folder, half):
            raise InputError(
                f"{folder} holds no {half} latents; make them with: gen3r train {half}-latents, or gen3r data encode"
            )
    return [kind for kind in KINDS if shards_of(folder, kind)]


class LatentShards:
    """The encoded clips of a folder by number, read when they are asked for.

    models: the hashes that every shard must have been made with, of all kinds in the folder (`kinds_in`); shape: the
    frames, height and width that its clips must have; source: the clips that it must hold, where these are at hand.

    Raises:
        InputError: a half is missing, or a shard; or one was made of something else. The line says which and of what,
            and the command that makes it again.
    """

    def __init__(
        self, folder: Path, models: Mapping[str, str], shape: tuple[int, int, int], source: ClipSource | None = None
    ) -> None:
        self.kinds, self.shape = kinds_in(folder), shape
        self._bytes = 0
        self._held: dict[str, Tensor] = {}
        self.captions: list[str] = []
        self._shards: list[list[Any]] = []  # the files of the same clips
        self._index: list[tuple[int, int]] = []
        paths = {kind: shards_of(folder, kind) for kind in self.kinds}
        for start in sorted(set().union(*paths.values())):
            missing = [kind for kind in self.kinds if start not in paths[kind]]
            if missing or start != len(self):
                raise InputError(f"{folder} lacks {(missing or self.kinds)[0]} latents of clips from {len(self)} on; "
                                 "finish the command that made the others")  # fmt: skip
            files = [open_shard(paths[kind][start]) for kind in self.kinds]
            captions = json.loads(files[0].metadata()["captions"])
            clips = range(start, start + len(captions))
            expected = None if source is None else _fingerprint(source, clips)
            for kind, file in zip(self.kinds, files, strict=True):
                mark = Mark.of(file.metadata())
                own = {name: models[name] for name in KINDS[kind]}
                if difference := mark.difference(own, shape, expected):
                    again = mark.command or f"gen3r train {kind}-latents"
                    raise InputError(f"{paths[kind][start]} {difference}; remove it, or make it again with: {again}")
                expected = mark.source
            self._index += [(len(self._shards), row) for row in range(len(captions))]
            self._shards.append(files)
            self._bytes += sum(paths[kind][start].stat().st_size for kind in self.kinds)
            self.captions += captions

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """The tensors of a clip: what `training.encoding` gives, cameras in VGGT's gauge whatever they were in."""
        shard, row = self._index[number]
        item = {k: file.get_slice(k)[row] for file in self._shards[shard] for k in file.keys()}
        poses = item["T_world_camera"].clone()
        poses[:, :3, 3] /= item.pop("unit")
        return item | {"T_world_camera": poses}

    def hold(self, device: torch.device) -> None:
        """Keeps all rows in an accelerator's memory, for `take`, if a third of what is free there holds them."""
        if "contexts" in self.kinds or not has_room(device, self._bytes):  # texts differ in length
            return
        parts = [{k: file.get_tensor(k).to(device) for file in files for k in file.keys()} for files in self._shards]
        self._held = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
        self._held["T_world_camera"][:, :, :3, 3] /= self._held.pop("unit")[:, None]

    def take(self, index: Tensor) -> dict[str, Any]:
        """The rows of the clips `index` [B]: tensors in float32, on the device that holds them; lists of texts."""
        if self._held:
            index = index.to(self._held["appearance"].device)
            return {k: v[index].float() for k, v in self._held.items()}
        rows = [self[i] for i in index.tolist()]
        taken = {k: [row[k] for row in rows] for k in rows[0]}
        return {k: v if k in TEXTS else torch.stack(v).float() for k, v in taken.items()}


def latent_means(moments: Tensor) -> Tensor:
    """What is denoised, as of Wan's own latents: [B, 16, ...] of [B, 32, ...]. Noise would be learned, then undone."""
    return moments.chunk(2, dim=1)[0]


def joint_latents(rows: Mapping[str, Tensor]) -> Tensor:
    """Z = [A; G] of clips as `LatentShards` has them: [B, 16, f, h, 2w]."""
    return torch.cat([latent_means(rows[half]) for half in HALVES], dim=-1)


def _fingerprint(source: ClipSource, numbers: range) -> str:
    return source.fingerprint(numbers) if numbers.stop <= len(source) else "more clips than there are"


def _by(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
