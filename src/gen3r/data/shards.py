"""Clips in safetensors shards, read without loading a whole shard."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip, take_frames
from gen3r.errors import InputError
from gen3r.files import write_tensors

SHARD_CLIPS = 64


def write_shard(path: Path, clips: Sequence[Clip], made: str) -> None:
    """Writes clips of one size with their captions, and with attributes and moving depth where they have any.

    made: the settings that the clips were drawn with, for the header.
    """
    tensors = {
        "frames": torch.stack([c.frames for c in clips]),
        "depth": torch.stack([c.depth for c in clips]).half(),
        "T_world_camera": torch.stack([c.cameras.T_world_camera for c in clips]),
        "K_px": torch.stack([c.cameras.K_px for c in clips]),
    }
    moving = [c.moving_depth for c in clips if c.moving_depth is not None]
    if moving:
        assert len(moving) == len(clips), "rows are clips"
        tensors["moving_depth"] = torch.stack(moving).half()
    metadata = {"captions": json.dumps([c.caption for c in clips]), "made": made}
    if any(c.attributes for c in clips):
        metadata["attributes"] = json.dumps([c.attributes for c in clips])
    write_tensors(tensors, path, metadata)


def open_shard(path: Path) -> Any:
    """A shard of clips or latents, mapped from disk.

    Raises:
        InputError: it is damaged.
    """
    try:
        file = safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it and make it again") from error
    if "captions" not in (file.metadata() or {}):
        raise InputError(f"{path} is damaged (its header has no captions); remove it and make it again")
    return file


def has_room(device: torch.device, size: int) -> bool:
    """Whether a third of an accelerator's free memory holds `size` bytes."""
    return device.type == "cuda" and 3 * size <= torch.cuda.mem_get_info(device)[0]


class ClipShards:
    """The clips of a folder of shards, or of one shard, by number: a `ClipSource`.

    zero_is_sky: nothing moves in them, so that a depth of 0 is the sky.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        paths = [folder] if folder.is_file() else sorted(folder.glob("clips-*.safetensors"))
        if not paths:
            raise InputError(f"{folder} holds no clips; make some with: gen3r data synthesize 4096 {folder}")
        self._files = [open_shard(p) for p in paths]
        self._captions = [json.loads(f.metadata()["captions"]) for f in self._files]
        self._attributes = [
            json.loads(f.metadata().get("attributes", "null")) or [None] * len(captions)
            for f, captions in zip(self._files, self._captions, strict=True)
        ]
        self._index = [(i, j) for i, captions in enumerate(self._captions) for j in range(len(captions))]
        self._bytes = sum(p.stat().st_size for p in paths)
        self._held: dict[str, torch.Tensor] = {}
        self.zero_is_sky = not any("moving_depth" in file.keys() for file in self._files)

    def hold(self, device: torch.device) -> None:
        """Keeps all clips in an accelerator's memory, for `take`, if they fit in a third of its free memory."""
        if has_room(device, self._bytes):
            names = ("frames", "depth", "T_world_camera", "K_px")
            self._held = {k: torch.cat([f.get_tensor(k).to(device) for f in self._files]) for k in names}

    @property
    def captions(self) -> list[str]:
        """The captions of all clips, in order."""
        return [caption for captions in self._captions for caption in captions]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        frames, height, width = self._files[0].get_slice("frames").get_shape()[1:4]
        return frames, height, width

    def at_size(self, height: int, width: int) -> Self:
        """The clips as they are stored."""
        return self

    def fingerprint(self, numbers: range) -> str:
        """A hash of the clips' captions and cameras, and of one row of pixels each; most pixels are left unread."""
        digest = hashlib.sha256()
        for number in numbers:
            i, j = self._index[number]
            frames, T, K = (self._files[i].get_slice(k) for k in ("frames", "T_world_camera", "K_px"))
            shape = frames.get_shape()[1:4]
            digest.update(json.dumps([self._captions[i][j], shape]).encode())
            for part in (frames[j, 0, shape[1] // 2], T[j], K[j]):
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def attributes(self) -> list[dict[str, Any] | None]:
        """The attributes of each clip, in order; None where they are not recorded."""
        return [a for attributes in self._attributes for a in attributes]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> Clip:
        i, j = self._index[number]
        file = self._files[i]
        frames, depth, T, K = (file.get_slice(k)[j] for k in ("frames", "depth", "T_world_camera", "K_px"))
        moving = file.get_slice("moving_depth")[j].float() if "moving_depth" in file.keys() else None
        cameras = Cameras(T, K, *frames.shape[1:3])
        return Clip(frames, depth.float(), cameras, self._captions[i][j], self._attributes[i][j], moving)

    def take(self, numbers: Sequence[int], index: torch.Tensor) -> dict[str, Any]:
        """As `take_frames`; on the device that holds the clips, if one does."""
        if not self._held:
            return take_frames([self[n] for n in numbers], index)
        device = self._held["frames"].device
        rows, places = torch.tensor(numbers, device=device)[:, None], index.to(device)
        drawn = {name: tensor[rows, places] for name, tensor in self._held.items()}
        captions = [self._captions[i][j] for i, j in (self._index[n] for n in numbers)]
        return drawn | {"depth": drawn["depth"].float(), "captions": captions}
