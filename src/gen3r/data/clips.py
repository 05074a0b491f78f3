"""Clips of a chosen length, step and size out of the sequences that datasets hold."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip, ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.points import unproject

# What becomes the unit of length: the dataset's own, the distance to the farthest camera, or the mean distance of the
# points from the first camera (VGGT's, which needs depth).
Unit = Literal["dataset", "cameras", "points"]


@dataclass(frozen=True, kw_only=True)
class ClipSampler:
    """Draws a clip from a sequence: `frames` frames, 1 to `max_stride` apart, at `height` x `width`, in `unit`.

    The published training takes 49 frames at 560 x 560, 1 or 2 apart, in the dataset's own unit.
    """

    frames: int
    height: int
    width: int
    max_stride: int = 2
    unit: Unit = "dataset"

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.max_stride) < 1:
            raise InputError("a clip's frames, height, width and max_stride must be at least 1")

    def __call__(self, record: ClipRecord, rng: np.random.Generator) -> Clip:
        """The clip that `rng` draws; errors as `load_clip`."""
        stride = int(rng.integers(1, self.max_stride + 1))
        indices = clip_indices(len(record), self.frames, stride, rng)
        caption = int(rng.integers(max(1, len(record.captions))))
        return load_clip(record, indices, self.height, self.width, self.unit, caption)


def clip_indices(total: int, frames: int, stride: int, rng: np.random.Generator) -> list[int]:
    """`frames` frame numbers, `stride` apart, from a random start in a sequence of `total`.

    A sequence too short for the stride is taken frame by frame; one too short even for that repeats its ends, as many
    times at the beginning as chance will have it (SPEC, section 7).
    """
    if min(total, frames, stride) < 1:
        raise InputError(f"frames and stride must be at least 1, and the sequence not empty ({total} frames)")
    if total < (frames - 1) * stride + 1:
        stride = 1
    spare = total - ((frames - 1) * stride + 1)
    start = int(rng.integers(spare + 1)) if spare >= 0 else -int(rng.integers(-spare + 1))
    return [min(max(start + i * stride, 0), total - 1) for i in range(frames)]


def load_clip(
    record: ClipRecord, indices: list[int], height: int, width: int, unit: Unit = "dataset", caption: int = 0
) -> Clip:
    """The frames of these numbers, resized to cover `height` x `width` and cropped in the centre.

    Intrinsics follow the pixels; poses become relative to the clip's first camera. caption: which of the record's,
    counted round.

    Raises:
        InputError: a frame or its depth cannot be read, or the unit needs depth that is not there.
    """
    if unit not in get_args(Unit):
        raise InputError(f"no unit {unit!r}; choose one of {', '.join(get_args(Unit))}")
    frames = torch.empty(len(indices), height, width, 3, dtype=torch.uint8)
    depth = torch.zeros(len(indices), height, width)
    for i, number in enumerate(indices):
        if i and number == indices[i - 1]:  # ends that repeat are read once
            frames[i], depth[i] = frames[i - 1], depth[i - 1]
            continue
        frames[i] = cover(_whole(record, number), height, width)
        if record.read_depth is not None:
            depth[i] = cover_depth(record.read_depth(number), height, width)
    cameras = replace(
        record.cameras, T_world_camera=record.cameras.T_world_camera[indices], K_px=record.cameras.K_px[indices]
    )
    cameras = cameras.relative_to_first().resize_and_crop(height, width)
    scale = 1 / _unit(unit, record, depth, cameras)
    text = record.captions[caption % len(record.captions)] if record.captions else ""
    return Clip(frames, depth if scale == 1 else depth * scale, cameras.scaled(scale), text)


def _whole(record: ClipRecord, number: int) -> torch.Tensor:
    """A frame, which must have the size that its camera is for."""
    frame, size = record.read_frame(number), (record.cameras.height, record.cameras.width)
    if frame.shape[:2] != size:
        raise InputError(
            f"{record.name}: picture {number} is {frame.shape[0]} x {frame.shape[1]}, its camera's is "
            f"{size[0]} x {size[1]}; leave the picture out"
        )
    return frame


def _unit(unit: Unit, record: ClipRecord, depth: torch.Tensor, cameras: Cameras) -> float:
    """The chosen unit's length in the dataset's; 1 where a clip gives none (a camera that stands still)."""
    if unit == "dataset":
        return 1.0
    if unit == "cameras":
        return float(cameras.centres.norm(dim=-1).max()) or 1.0
    if record.read_depth is None:
        raise InputError(f"{record.name} has no depth; take the unit from its cameras instead")
    distance = unproject(depth, cameras.T_world_camera, cameras.K_px).norm(dim=-1)[depth > 0]
    return float(distance.mean()) if len(distance) else 1.0


def cover(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A frame uint8 [H, W, 3] resized to cover `height` x `width` (bicubic) and cropped: `Cameras.resize_and_crop`."""
    h, w = frame.shape[:2]
    if (h, w) == (height, width):
        return frame
    scale, left, top = _crop(h, w, height, width)
    box = (left / scale, top / scale, min((left + width) / scale, w), min((top + height) / scale, h))
    picture = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC, box)
    return torch.from_numpy(np.array(picture))


def cover_depth(depth: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Depth [H, W] through the same resize and crop, from the nearest pixel: no mixing of near and far."""
    h, w = depth.shape
    scale, left, top = _crop(h, w, height, width)
    row = ((torch.arange(height) + 0.5 + top) / scale).long().clamp_max(h - 1)
    column = ((torch.arange(width) + 0.5 + left) / scale).long().clamp_max(w - 1)
    return depth[row[:, None], column]


def _crop(h: int, w: int, height: int, width: int) -> tuple[float, int, int]:
    """The scale that covers, and where the crop starts in the scaled picture."""
    scale = max(height / h, width / w)
    return scale, (int(w * scale + 1e-6) - width) // 2, (int(h * scale + 1e-6) - height) // 2
