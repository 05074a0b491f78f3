"""Whether the depth and the cameras of a sequence agree with its images, without knowing the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen3r.cameras.rays import pixel_grid
from gen3r.data.check.matches import Matches, fundamental_matrix, match_pictures, sampson_distance
from gen3r.data.records import ClipRecord
from gen3r.geometry.points import project

LONGEST = 384  # pixels of the longer side that images are matched at
ENOUGH = 30  # matches of a pair that is worth measuring
MOTION = 0.03  # of the image's width: how far apart the frames of a pair should be
WIDEST = 16  # frames between the two of a pair


@dataclass(frozen=True)
class Agreement:
    """Medians over the matches of some pairs of frames; None where there was nothing to measure.

    pairs: how many had enough matches. motion_px: how far the matches moved. reprojection_px: from where depth and
    cameras bring a pixel to where it is seen. epipolar_px: from a match to the epipolar line that the cameras give it.
    depth_off: relative difference of the depth brought along and the depth seen there. Pixels of the full image.
    """

    pairs: int = 0
    motion_px: float | None = None
    reprojection_px: float | None = None
    epipolar_px: float | None = None
    depth_off: float | None = None


def measure_agreement(record: ClipRecord, readable: Sequence[int], pairs: int = 4) -> Agreement:
    """Matches pairs of the readable frames, so far apart that something moves, spread over the sequence."""
    if len(readable) < 2:
        return Agreement()
    gap = _gap(record, readable)
    last = len(readable) - 1 - gap
    starts = sorted({round(i * last / max(1, pairs - 1)) for i in range(pairs)})
    measured = [_measure_pair(record, readable[s], readable[s + gap]) for s in starts]
    measured = [m for m in measured if m is not None]
    if not measured:
        return Agreement()
    return Agreement(len(measured), *(_median([m[i] for m in measured]) for i in range(4)))


def _gap(record: ClipRecord, readable: Sequence[int]) -> int:
    """How many frames on to look: the fewest with enough motion, as long as there are matches."""
    gap, start = 1, len(readable) // 2
    while gap < min(WIDEST, len(readable) - 1):
        here = min(start, len(readable) - 1 - gap)
        matches = _Pair.read(record, readable[here], readable[here + gap]).matches()
        if len(matches.here) < ENOUGH:
            return max(1, gap // 2)
        motion = (matches.there - matches.here).norm(dim=-1).median()
        if motion > MOTION * record.cameras.width:
            return gap
        gap *= 2
    return min(gap, len(readable) - 1)


@dataclass(frozen=True)
class _Pair:
    """Two frames made smaller, uint8 [h, w, 3], their depths in full or None, their cameras, and how many full pixels
    a small one is wide and high."""

    frames: list[Tensor]
    depth: list[Tensor] | None
    T: Tensor
    K: Tensor
    scale: Tensor

    @classmethod
    def read(cls, record: ClipRecord, i: int, j: int) -> "_Pair":
        cameras, shrink = record.cameras, max(1.0, max(record.cameras.height, record.cameras.width) / LONGEST)
        width, height = round(cameras.width / shrink), round(cameras.height / shrink)
        frames = [Image.fromarray(record.read_frame(n).numpy()) for n in (i, j)]
        small = [np.array(f.resize((width, height), Image.Resampling.BOX, reducing_gap=2)) for f in frames]
        scale = torch.tensor([cameras.width / width, cameras.height / height], dtype=torch.float64)
        depth = None if record.read_depth is None else [record.read_depth(n).double() for n in (i, j)]
        T, K = cameras.T_world_camera[[i, j]].double(), cameras.K_px[[i, j]].double()
        return cls([torch.from_numpy(s) for s in small], depth, T, K, scale)

    def matches(self) -> Matches:
        """In full pixels: searched everywhere or, where there is depth, around where it leads; whichever finds more."""
        found = match_pictures(self.frames[0], self.frames[1])
        if self.depth is not None:
            guess = (self._shift(0, 1).float(), self._shift(1, 0).float())
            guided = match_pictures(self.frames[0], self.frames[1], guess)
            found = max(found, guided, key=lambda m: len(m.here))
        return Matches(found.here.double() * self.scale, found.there.double() * self.scale)

    def landing(self, pixel: Tensor, here: int, there: int) -> tuple[Tensor, Tensor]:
        """Where pixels [N, 2] land and how deep [N], by depth and cameras; NaN and 0 where that is unknown."""
        depth = self.depth_at(pixel, here)
        ray = torch.cat([pixel, torch.ones(len(pixel), 1, dtype=pixel.dtype)], 1) @ torch.linalg.inv(self.K[here]).T
        points = (ray * depth[:, None]) @ self.T[here, :3, :3].T + self.T[here, :3, 3]
        place, z = project(points, self.T[there], self.K[there])
        known = (depth > 0) & (z > 0)
        return place.where(known[:, None], torch.nan), z.where(known, 0.0)

    def depth_at(self, pixel: Tensor, frame: int) -> Tensor:
        """The depth map, of any size, at pixels [N, 2] of the full image; 0 outside and where unknown."""
        assert self.depth is not None
        height, width = self.depth[frame].shape
        h, w = self.frames[frame].shape[:2]
        place = pixel.nan_to_num(-1.0) / (self.scale * torch.tensor([w, h])) * torch.tensor([width, height])
        inside = (place >= 0).all(1) & (place[:, 0] < width) & (place[:, 1] < height)
        column, row = place.where(inside[:, None], 0.0).long().unbind(-1)
        return self.depth[frame][row, column] * inside

    def _shift(self, here: int, there: int) -> Tensor:
        """The small pixels' shifts [2, h, w] that depth and cameras give, NaN where unknown."""
        h, w = self.frames[here].shape[:2]
        grid = pixel_grid(h, w, like=torch.empty(0, dtype=torch.float64))
        pixel = torch.stack(grid, -1).flatten(0, 1) * self.scale
        return ((self.landing(pixel, here, there)[0] - pixel) / self.scale).T.reshape(2, h, w)


def _measure_pair(record: ClipRecord, i: int, j: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Motion, reprojection, epipolar distance and relative depth difference of a pair's matches."""
    pair = _Pair.read(record, i, j)
    matches = pair.matches()
    if len(matches.here) < ENOUGH:
        return None
    nothing = torch.zeros(0, dtype=torch.float64)
    F = fundamental_matrix(pair.T[0], pair.K[0], pair.T[1], pair.K[1])
    epipolar = sampson_distance(matches, F) if F.abs().max() > 0 else nothing
    motion = (matches.there - matches.here).norm(dim=-1)
    if pair.depth is None:
        return motion, nothing, epipolar, nothing
    place, z = pair.landing(matches.here, 0, 1)
    reprojection = (place - matches.there).norm(dim=-1)[pair.depth_at(matches.here, 0) > 0].nan_to_num(torch.inf)
    seen = pair.depth_at(place, 1)
    both = (seen > 0) & (z > 0)
    return motion, reprojection, epipolar, (z[both] / seen[both] - 1).abs()


def _median(parts: list[Tensor]) -> float | None:
    values = torch.cat(parts)
    return float(values.median()) if len(values) else None
