"""The unit of a scene: its own, or metres where a length is known."""

from dataclasses import replace

import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.export.options import KnownLength
from gen3r.geometry.points import surface_normals
from gen3r.scene import Scene

SETTING = "metres_per_unit"
UPRIGHT = 0.8  # cosine between the floor's normal and the first camera's up
LEAST_FLOOR = 0.02  # share of the pixels
TRIES, TOLERANCE = 200, 0.01  # planes that are tried; distance to the floor over its distance to the camera


def in_metres(scene: Scene, known: KnownLength | None = None) -> Scene:
    """The scene with a metre as its unit, by a known length or by its own settings; else the scene as it is.

    Raises:
        InputError: the length cannot be measured in the scene.
    """
    metres = scene.settings.get(SETTING) if known is None else known.metres / measured_length(scene, known)
    if metres is None or metres == 1:
        return scene
    return replace(
        scene,
        depth=scene.depth * metres,
        points=scene.points * metres,
        cameras=scene.cameras.scaled(metres),
        settings={**scene.settings, SETTING: 1.0},
    )


def unit_name(scene: Scene) -> str:
    """What a file says about its unit."""
    return "metres" if scene.settings.get(SETTING) == 1 else "the scene's own, of unknown length"


def measured_length(scene: Scene, known: KnownLength) -> float:
    """A known length in the scene's unit.

    Raises:
        InputError: a pixel is not in the frame or has no depth, both are one point, or there is no floor.
    """
    if known.pixels is None:
        return _camera_height(scene)
    start, end = (_point(scene, known.frame, *pixel) for pixel in known.pixels)
    length = float((start - end).norm())
    if not length > 0:
        raise InputError("the two pixels of the known length are one point; choose two that are apart")
    return length


def _point(scene: Scene, frame: int, x: float, y: float) -> Tensor:
    frames, height, width = scene.depth.shape
    if not (frame < frames and x < width and y < height):
        raise InputError(
            f"the scene has no pixel {x:g},{y:g} in frame {frame}; it has {frames} frames of {width} x {height}, "
            "counted from 0"
        )
    if not scene.depth[frame, int(y), int(x)] > 0:
        raise InputError(f"pixel {x:g},{y:g} of frame {frame} has no depth; choose another")
    return scene.points[frame, int(y), int(x)]


def _camera_height(scene: Scene) -> float:
    """The distance of the first camera from the floor: the plane of most pixels that faces up below the camera.

    Planes through single pixels with their normals are tried (RANSAC); the best is fitted again to its pixels.
    """
    seen = scene.mask[0]
    normals = surface_normals(scene.depth[0], scene.cameras.K_px[0], seen.flatten().nonzero()[:, 0])
    points = scene.points[0][seen]
    level = (normals[:, 1] < -UPRIGHT) & (points[:, 1] > 0)
    points, normals = points[level].double(), normals[level].double()
    if len(points) < max(3, LEAST_FLOOR * int(seen.sum())):
        raise InputError("the first frame shows no floor below the camera; give a length between two pixels instead")
    tried = torch.linspace(0, len(points) - 1, min(TRIES, len(points))).long()
    heights = (points[tried] * normals[tried]).sum(-1)
    distances = (points @ normals[tried].T - heights).abs() / heights.abs()
    inside = points[distances[:, (distances < TOLERANCE).sum(0).argmax()] < TOLERANCE]
    centre = inside.mean(0)
    normal = torch.linalg.svd(inside - centre, full_matrices=False)[2][2]
    return float((centre @ normal).abs())
