"""3-D Gaussians of a scene, one for each exported point, in the PLY layout of INRIA's splat trainer."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.conventions import Axes, quaternion_from_matrix, world_axes
from gen3r.export.ply import comments
from gen3r.export.selection import Selection, thinned
from gen3r.geometry.clouds import PointCloud, write_vertices

SPREAD = 0.6  # standard deviation along the surface over the width of the surface that a Gaussian stands for
THINNESS = 0.1  # standard deviation across the surface over that along it
STEEPEST = 0.2  # cosine of the angle to the surface's normal, below which a footprint grows no longer
FAINTEST, FULLEST = 0.6, 0.99  # opacity of the least and of the most confident
SH_0 = 0.5 / math.sqrt(math.pi)  # the constant spherical harmonic
COLUMNS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
    "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip


@dataclass(frozen=True)
class Gaussians:
    """means: [N, 3]. scales: standard deviations along their own axes [N, 3]. rotations: unit quaternions [N, 4], w
    first, from their own axes to the world's; the third axis is the surface's normal. opacities: [N], below 1.
    colours: uint8 [N, 3]."""

    means: Tensor
    scales: Tensor
    rotations: Tensor
    opacities: Tensor
    colours: Tensor


def to_gaussians(selection: Selection, axes: Axes) -> Gaussians:
    """The Gaussians of all exported points."""
    parts = [part for _, part in frame_gaussians(selection, axes)] or [
        _flat(selection.cloud(), torch.zeros(3), torch.ones(1))
    ]
    return Gaussians(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def write(selection: Selection, path: Path) -> None:
    """Writes INRIA's columns frame by frame: colours as spherical harmonics of degree 0, logits of opacity, logarithms
    of scale."""
    vertices = (_columns(part) for _, part in frame_gaussians(selection, selection.options.axes))
    write_vertices(vertices, dict.fromkeys(COLUMNS, "<f4"), len(selection.pixels), path, comments(selection))


def write_spz(selection: Selection, path: Path) -> None:
    """Writes Niantic's compressed form, whose axes are OpenGL's; positions are whole multiples of 1/4096."""
    import gsply  # pyright: ignore[reportMissingImports]

    count, start = len(selection.pixels), 0
    means, colours, scales = np.empty((3, count, 3), np.float32)
    opacity, rotations = np.empty(count, np.float32), np.empty((count, 4), np.float32)
    for _, part in frame_gaussians(selection, "opengl"):  # all frames' Gaussians at once would take twice the memory
        end = start + len(part.means)
        for whole, of_frame in zip((means, colours, opacity, scales, rotations), _encoded(part), strict=True):
            whole[start:end] = of_frame
        start = end
    no_harmonics = np.empty((count, 0, 3), np.float32)
    data = gsply.GSData(means, scales, rotations, opacity, colours, no_harmonics)
    gsply.write_spz(path, data)


def frame_gaussians(selection: Selection, axes: Axes) -> Iterator[tuple[int, Gaussians]]:
    """The Gaussians of each frame that has any, with the frame's number."""
    turn, cameras = world_axes(axes), selection.scene.cameras
    confidence = selection.scene.confidence.flatten()[selection.pixels]
    ranked = thinned(confidence, 100_000).sort().values
    for frame, cloud in selection.clouds():
        centre = (turn[:3, :3] @ cameras.centres[frame].double()).float()
        yield frame, _flat(cloud.moved(turn), centre, ranked)


def _flat(cloud: PointCloud, centre: Tensor, ranked: Tensor) -> Gaussians:
    """Gaussians along the surface, which cover what each pixel of a camera at `centre` covers of it.

    A footprint is as wide as its point across the direction in which the surface leans away, and longer along it.
    ranked: sorted confidences, among which a point's rank gives its opacity.
    """
    assert cloud.normals is not None
    assert cloud.widths is not None
    assert cloud.colours is not None
    assert cloud.confidence is not None
    normal, view = cloud.normals, torch.nn.functional.normalize(centre - cloud.points, dim=-1)
    cosine = (normal * view).sum(-1, keepdim=True)
    leaning = view - cosine * normal
    upright = torch.eye(3)[normal.abs().argmin(-1)]  # any direction along a surface that faces the camera
    leaning = torch.where(leaning.norm(dim=-1, keepdim=True) > 1e-3, leaning, torch.linalg.cross(normal, upright))
    leaning = torch.nn.functional.normalize(leaning, dim=-1)
    R = torch.stack([leaning, torch.linalg.cross(normal, leaning), normal], -1)
    across = SPREAD * cloud.widths
    scales = torch.stack([across / cosine[:, 0].clamp(STEEPEST, 1), across, THINNESS * across], -1)
    rank = torch.searchsorted(ranked, cloud.confidence, right=True) / len(ranked)
    return Gaussians(
        means=cloud.points,
        scales=scales,
        rotations=quaternion_from_matrix(R).roll(1, -1),
        opacities=FAINTEST + (FULLEST - FAINTEST) * rank,
        colours=cloud.colours,
    )


def _encoded(part: Gaussians) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Means, colours as spherical harmonics, logits of opacity, logarithms of scale, and rotations."""
    colours = (part.colours / 255 - 0.5) / SH_0
    return part.means, colours, part.opacities.logit(), part.scales.log(), part.rotations


def _columns(part: Gaussians) -> dict[str, Tensor]:
    means, colours, opacity, scales, rotations = _encoded(part)
    unused = torch.zeros_like(means)  # normals, which nothing reads
    values = torch.cat([means, unused, colours, opacity[:, None], scales, rotations], -1)
    return dict(zip(COLUMNS, values.unbind(-1), strict=True))
