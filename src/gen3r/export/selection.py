"""The one place that decides what of a scene is exported: reliable pixels, and the points among them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from gen3r.export.options import ExportOptions
from gen3r.geometry.clouds import PointCloud
from gen3r.geometry.points import depth_edges, grazing_angles, project, surface_normals
from gen3r.geometry.sky import find_sky
from gen3r.scene import Scene

SAMPLE = 1_000_000  # values of which quantiles are taken
NEIGHBOURS = 8  # of a point, for outliers
INNER = (0.01, 0.99)  # quantiles of the points between which the scene's extent is measured
FARTHEST = 2**20  # cubes from the scene's middle in which a point still has a cube of its own


@dataclass(frozen=True)
class Selection:
    """What of a scene leaves it under some options. Everything is computed when it is first asked for."""

    scene: Scene
    options: ExportOptions

    @cached_property
    def reliable(self) -> Tensor:
        """bool [F, H, W]: valid depth that is sure enough, not at an edge, not grazing, and not the sky."""
        scene, options = self.scene, self.options
        mask = scene.mask & (scene.confidence >= _quantile(scene.confidence, options.unsure))
        if options.edges > 0:
            for frame, depth in zip(mask, scene.depth, strict=True):
                frame &= ~depth_edges(depth, options.edges)
        if options.grazing > 0 or options.sky > 0:
            usual = _quantile(scene.depth[scene.mask], 0.5)
            sources = [None] * len(mask) if scene.source is None else scene.source
            parts = zip(mask, scene.depth, scene.cameras.K_px, scene.frames, sources, strict=True)
            for frame, depth, K_px, colours, source in parts:
                angles = grazing_angles(depth, K_px)
                frame &= angles >= options.grazing
                if options.sky > 0:
                    far, near = options.sky * usual, min(options.sky, 1) * usual
                    frame &= ~find_sky(depth, angles, colours, far, near, source)
        return mask

    @cached_property
    def pixels(self) -> Tensor:
        """The pixels of the exported points, int64 [N]: indices into the flat [F, H, W], in rising order."""
        pixels, options = self._unthinned, self.options
        pixels = thinned(pixels, options.max_points)
        if options.outliers > 0 and len(pixels) > NEIGHBOURS:
            points, widths = self.scene.points.flatten(0, 2)[pixels], self._widths(pixels)
            pixels = pixels[_among_others(points.numpy(), widths.numpy(), options.outliers)]
        return pixels

    @cached_property
    def _unthinned(self) -> Tensor:
        """The same before they are thinned to a number, with outliers."""
        scene = self.scene
        pixels = (self.reliable & own_pixels(scene) & scene.points.isfinite().all(-1)).flatten().nonzero()[:, 0]
        return pixels[_first_in_cubes(scene.points.flatten(0, 2)[pixels], self.voxel)] if self.voxel > 0 else pixels

    @cached_property
    def voxel(self) -> float:
        """The side of the cubes that hold one point each; 0 for all points."""
        return self.options.voxel * self.extent

    @cached_property
    def extent(self) -> float:
        """The diagonal of the box around the reliable points, without the outermost 1 % on each side; 0 of none."""
        points = thinned(self.scene.points[self.reliable], SAMPLE).numpy()
        return float(np.linalg.norm(np.ptp(np.quantile(points, INNER, axis=0), axis=0))) if len(points) else 0.0

    def _widths(self, pixels: Tensor) -> Tensor:
        """The width [N] of the surface that a pixel shows, at least a cube's."""
        scene = self.scene
        focal = scene.cameras.K_px[:, 0, 0][pixels // scene.depth[0].numel()]
        return (scene.depth.flatten()[pixels] / focal).clamp_min(self.voxel)

    @cached_property
    def widths(self) -> Tensor:
        """How wide the exported points are [N]: as the part of the surface that each stands for, its pixel or its cube,
        and more where points were thinned to a number."""
        return self._widths(self.pixels) * math.sqrt(len(self._unthinned) / max(1, len(self.pixels)))

    def clouds(self) -> Iterator[tuple[int, PointCloud]]:
        """The exported points of each frame that has any: the frame's number, and all that is known of its points."""
        scene, pixels = self.scene, self.pixels
        size = scene.depth[0].numel()
        bounds = torch.searchsorted(pixels, size * torch.arange(len(scene.depth) + 1)).tolist()
        for frame, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
            if end > start:
                inside = pixels[start:end] - frame * size
                R, K_px = scene.cameras.T_world_camera[frame, :3, :3], scene.cameras.K_px[frame]
                yield (
                    frame,
                    PointCloud(
                        points=scene.points[frame].flatten(0, 1)[inside],
                        colours=scene.frames[frame].flatten(0, 1)[inside],
                        widths=self.widths[start:end],
                        normals=surface_normals(scene.depth[frame], K_px, inside) @ R.T,
                        confidence=scene.confidence[frame].flatten()[inside],
                    ),
                )

    def seen(self, points: Tensor, frame: int, tolerance: float) -> tuple[Tensor, Tensor]:
        """Which points [N, 3] a frame sees, bool [N], and where, in pixels [N, 2].

        A point is seen where the frame's depth is reliable and differs from the point's by less than `tolerance` of it.
        """
        scene = self.scene
        height, width = scene.depth.shape[1:]
        places, z = project(points, scene.cameras.T_world_camera[frame], scene.cameras.K_px[frame])
        inside = (places >= 0).all(-1) & (places < torch.tensor([width, height])).all(-1) & (z > 0)
        x, y = torch.where(inside[:, None], places, 0).long().unbind(-1)
        same = (scene.depth[frame, y, x] - z).abs() < tolerance * z
        return inside & same & self.reliable[frame, y, x], places

    def cloud(self) -> PointCloud:
        """All exported points."""
        clouds = [cloud for _, cloud in self.clouds()]
        return PointCloud.join(clouds or [_nothing()])


def own_pixels(scene: Scene) -> Tensor:
    """bool [F, H, W]: what a photo shows, in the photo's own frame alone, which shows all of it; and all else."""
    mask = torch.ones_like(scene.mask)
    for photo, own in ((1, 0), (2, len(mask) - 1)):
        for frame, source in enumerate(scene.source):
            if frame != own:
                mask[frame] &= source != photo
    return mask


def thinned(values: Tensor, most: int) -> Tensor:
    """At most so many of the values [N, ...], evenly spaced."""
    return values[:: math.ceil(len(values) / most) or 1].contiguous()


def _quantile(values: Tensor, share: float) -> float:
    """Of an even sample of the values, the lower of two neighbours; 0 of none."""
    sample = thinned(values.flatten(), SAMPLE).numpy()
    return float(np.quantile(sample, share, method="lower")) if len(sample) else 0.0


def _first_in_cubes(points: Tensor, side: float) -> Tensor:
    """The index of the first of the points [N, 3] in each cube, in rising order."""
    cubes = (points / side).floor().clamp(-FARTHEST, FARTHEST - 1).long() + FARTHEST
    numbers = cubes[:, 0]
    for axis in (1, 2):
        numbers = numbers * (2 * FARTHEST) + cubes[:, axis]
    return torch.from_numpy(np.sort(np.unique(numbers.numpy(), return_index=True)[1]))


def _among_others(points: np.ndarray, widths: np.ndarray, most: float) -> np.ndarray:
    """Which of the points [N, 3] are near their neighbours: their mean distance to a few, in their own widths [N], is
    not over the mean of all by more than `most` standard deviations."""
    distances = KDTree(points, balanced_tree=False).query(points, NEIGHBOURS + 1, workers=-1)[0][:, 1:].mean(-1)
    distances = distances / widths
    return distances <= distances.mean() + most * distances.std()


def _nothing() -> PointCloud:
    empty = torch.empty(0, 3)
    return PointCloud(empty, empty.to(torch.uint8), empty[:, 0], empty, empty[:, 0])
