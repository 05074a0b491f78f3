"""Clips of a chosen length, stride and size from the sequences of datasets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from gen3r.data.records import Clip, ClipRecord
from gen3r.data.virtual_camera import draw_virtual_camera, look_through
from gen3r.errors import InputError
from gen3r.media.crop import cover_crop


@dataclass(frozen=True, kw_only=True)
class ClipSampler:
    """Draws a clip from a sequence: `frames` frames, 1 to `max_stride` apart, at `height` x `width`.

    The unit of length is the dataset's. The published training takes 49 frames at 560 x 560, 1 or 2 apart.
    virtual_cameras: a clip is seen by a camera at the same places that looks elsewhere, is rolled, and has another
        angle of view (`draw_virtual_camera`), instead of being cropped in the centre.
    """

    frames: int
    height: int
    width: int
    max_stride: int = 2
    virtual_cameras: bool = False

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.max_stride) < 1:
            raise InputError("a clip's frames, height, width and max_stride must be at least 1")

    def __call__(self, record: ClipRecord, rng: np.random.Generator, shown: Sequence[int] | None = None) -> Clip:
        """The clip that `rng` draws, or the `shown` ones of its frames; errors as `load_clip`."""
        stride = int(rng.integers(1, self.max_stride + 1))
        indices = clip_indices(len(record), self.frames, stride, rng)
        indices = indices if shown is None else [indices[i] for i in shown]
        caption = int(rng.integers(max(1, len(record.captions))))
        if not self.virtual_cameras:
            return load_clip(record, indices, self.height, self.width, caption)
        whole = load_clip(record, indices, record.cameras.height, record.cameras.width, caption)
        return look_through(whole, *draw_virtual_camera(whole.cameras, self.height, self.width, rng))


def clip_indices(total: int, frames: int, stride: int, rng: np.random.Generator) -> list[int]:
    """`frames` frame numbers, `stride` apart, from a random start in a sequence of `total`.

    A sequence that is too short for the stride is read at stride 1. One that is too short even for that repeats its
    first and last frames; how often it repeats the first is random. The published implementation does the same.
    """
    if min(total, frames, stride) < 1:
        raise InputError(f"frames and stride must be at least 1, and the sequence not empty ({total} frames)")
    if total < (frames - 1) * stride + 1:
        stride = 1
    spare = total - ((frames - 1) * stride + 1)
    start = int(rng.integers(spare + 1)) if spare >= 0 else -int(rng.integers(-spare + 1))
    return [min(max(start + i * stride, 0), total - 1) for i in range(frames)]


def load_clip(record: ClipRecord, indices: list[int], height: int, width: int, caption: int = 0) -> Clip:
    """The frames of these numbers, resized to cover `height` x `width` and cropped in the centre.

    Intrinsics follow the pixels; poses become relative to the clip's first camera. caption: the number of the record's
    caption, modulo their count.

    Raises:
        InputError: a frame or its depth cannot be read.
    """
    frames = torch.empty(len(indices), height, width, 3, dtype=torch.uint8)
    depth = torch.zeros(len(indices), height, width)
    for i, number in enumerate(indices):
        if i and number == indices[i - 1]:  # a repeated end is read once
            frames[i], depth[i] = frames[i - 1], depth[i - 1]
            continue
        frames[i] = cover(_whole(record, number), height, width)
        if record.read_depth is not None:
            depth[i] = cover_depth(record.read_depth(number), height, width)
    cameras = record.cameras
    cameras = replace(cameras, T_world_camera=cameras.T_world_camera[indices], K_px=cameras.K_px[indices])
    text = record.captions[caption % len(record.captions)] if record.captions else ""
    return Clip(frames, depth, cameras.relative_to_first().resize_and_crop(height, width), text)


def _whole(record: ClipRecord, number: int) -> torch.Tensor:
    """A frame, which must have its camera's size."""
    frame, size = record.read_frame(number), (record.cameras.height, record.cameras.width)
    if frame.shape[:2] != size:
        raise InputError(
            f"{record.name}: image {number} is {frame.shape[0]} x {frame.shape[1]}, its camera's is "
            f"{size[0]} x {size[1]}; leave the image out"
        )
    return frame


def cover(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A frame uint8 [H, W, 3] resized to cover `height` x `width` (bicubic) and cropped: `Cameras.resize_and_crop`."""
    h, w = frame.shape[:2]
    if (h, w) == (height, width):
        return frame
    scale, left, top = cover_crop((h, w), (height, width))
    box = (left / scale, top / scale, min((left + width) / scale, w), min((top + height) / scale, h))
    picture = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC, box)
    return torch.from_numpy(np.array(picture))


def cover_depth(depth: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Depth [H, W] through the same resize and crop, nearest neighbour: near and far depths never mix."""
    h, w = depth.shape
    scale, left, top = cover_crop((h, w), (height, width))
    row = ((torch.arange(height) + 0.5 + top) / scale).long().clamp_max(h - 1)
    column = ((torch.arange(width) + 0.5 + left) / scale).long().clamp_max(w - 1)
    return depth[row[:, None], column]
