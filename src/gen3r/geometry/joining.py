"""Long clips in overlapping chunks, and the similarity that puts one chunk into the frame and unit of another."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras

Item = TypeVar("Item")


@dataclass(frozen=True)
class Similarity:
    """x -> scale R x + t, with the rigid motion T = [R t], float64 [4, 4]."""

    scale: float
    T: Tensor

    def moved(self, cameras: Cameras) -> Cameras:
        """The cameras in the other frame and unit."""
        scaled = cameras.scaled(self.scale).T_world_camera.double()
        return replace(cameras, T_world_camera=(self.T.to(scaled.device) @ scaled).float())


def overlapping_chunks(count: int, length: int, overlap: int) -> list[range]:
    """Chunks of `length` of the numbers 0..count-1, spread evenly; each shares at least `overlap` with the next.

    One chunk where the numbers are no more than that.
    """
    chunks = max(1, math.ceil((count - overlap) / (length - overlap)))
    starts = np.linspace(0, max(0, count - length), chunks).round().astype(int).tolist()
    return [range(start, min(start + length, count)) for start in starts]


def windows(items: Iterable[Item], chunks: Sequence[range]) -> Iterator[list[Item]]:
    """The items of each chunk; no more than one chunk's are held."""
    items, held, start = iter(items), [], 0
    for chunk in chunks:
        held = held[chunk.start - start :]
        held += islice(items, len(chunk) - len(held))
        start = chunk.start
        yield held


def fit_similarity(depth: Tensor, cameras: Cameras, other_depth: Tensor, other_cameras: Cameras) -> Similarity:
    """The similarity that takes the other reconstruction of the same frames to this one.

    depth, other_depth: z-depth [F, H, W] of F frames, each in the unit of its cameras. The scale is the median ratio
    of depths, which no camera needs to move for. The rotation is the mean of those of all cameras (chordal L2 mean;
    Hartley et al. 2013), and the translation takes the mean of their centres to that of these cameras'.
    """
    ratio = (depth / other_depth).flatten()
    ratio = ratio[ratio.isfinite() & (ratio > 0)]
    scale = float(ratio.log().median().exp()) if len(ratio) else 1.0
    poses, others = (x.T_world_camera.double() for x in (cameras, other_cameras))
    U, _, Vh = torch.linalg.svd((poses[:, :3, :3] @ others[:, :3, :3].mT).sum(0))
    T = torch.eye(4, dtype=poses.dtype)
    T[:3, :3] = U * torch.stack([*torch.ones(2), torch.linalg.det(U @ Vh).sign()]) @ Vh
    T[:3, 3] = (poses[:, :3, 3] - scale * others[:, :3, 3] @ T[:3, :3].mT).mean(0)
    return Similarity(scale, T)
