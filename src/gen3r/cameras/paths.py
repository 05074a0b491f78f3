"""Named camera paths, and the resampling of any path on SE(3).

Each named path starts at the identity; lengths are multiples of the scene's depth, angles are in degrees.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.names import BETWEEN, FREE, PATHS
from gen3r.errors import InputError

Pose = Callable[[Tensor, float, float], Tensor]
EASINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda t: t,
    "ease": lambda t: t * t * (3 - 2 * t),
}


@dataclass(frozen=True)
class Trajectory:
    """A path: poses [F, 4, 4] of progress [F] in [0, 1], extent and scene depth; its usual extent, and what it does."""

    pose: Pose
    extent: float
    unit: str
    doc: str


def _shift(axis: int, sign: float) -> Pose:
    """Moves along a camera axis by extent times the scene's depth."""

    def pose(t: Tensor, extent: float, depth: float) -> Tensor:
        T = _identities(t)
        T[:, axis, 3] = sign * extent * depth * t
        return T

    return pose


def _turn(axis: int, sign: float) -> Pose:
    """Turns in place about a camera axis."""

    def pose(t: Tensor, extent: float, depth: float) -> Tensor:
        T = _identities(t)
        T[:, :3, :3] = _rotation(axis, sign * math.radians(extent) * t)
        return T

    return pose


def _orbit(sign: float) -> Pose:
    """Circles about the point straight ahead at the scene's depth, looking at it."""

    def pose(t: Tensor, extent: float, depth: float) -> Tensor:
        T = _identities(t)
        T[:, :3, :3] = _rotation(1, sign * math.radians(extent) * t)
        centre = torch.tensor([0.0, 0.0, depth])
        T[:, :3, 3] = centre - T[:, :3, :3] @ centre
        return T

    return pose


def _spiral(t: Tensor, extent: float, depth: float) -> Tensor:
    """One turn of a widening circle across the view, looking at the point ahead."""
    angle, radius = 2 * math.pi * t, extent * depth * t
    T = _identities(t)
    T[:, 0, 3], T[:, 1, 3] = radius * angle.sin(), radius * (1 - angle.cos())
    ahead = torch.nn.functional.normalize(torch.tensor([0.0, 0.0, depth]) - T[:, :3, 3], dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(torch.tensor([[0.0, 1.0, 0.0]]).expand_as(ahead), ahead), dim=-1
    )
    T[:, :3, :3] = torch.stack([right, torch.linalg.cross(ahead, right), ahead], -1)
    return T


def _still(t: Tensor, extent: float, depth: float) -> Tensor:
    return _identities(t)


def _identities(t: Tensor) -> Tensor:
    return torch.eye(4).repeat(len(t), 1, 1)


def _rotation(axis: int, angle: Tensor) -> Tensor:
    """Rotations [F, 3, 3] about a coordinate axis."""
    R = torch.eye(3).repeat(len(angle), 1, 1)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    R[:, i, i] = R[:, j, j] = angle.cos()
    R[:, i, j], R[:, j, i] = -angle.sin(), angle.sin()
    return R


X, Y, Z = 0, 1, 2
_POSES: dict[str, Pose] = {
    "dolly_in": _shift(Z, 1), "dolly_out": _shift(Z, -1), "truck_left": _shift(X, -1), "truck_right": _shift(X, 1),
    "pedestal_up": _shift(Y, -1), "pedestal_down": _shift(Y, 1), "pan_left": _turn(Y, -1), "pan_right": _turn(Y, 1),
    "tilt_up": _turn(X, 1), "tilt_down": _turn(X, -1), "orbit_left": _orbit(1), "orbit_right": _orbit(-1),
    "spiral": _spiral, "still": _still, "zoom_in": _shift(Z, 1), "zoom_out": _shift(Z, -1),
    "arc_left": _turn(Y, -1), "arc_right": _turn(Y, 1), "translate_up": _turn(X, 1), "translate_down": _turn(X, -1),
}  # fmt: skip
TRAJECTORIES = {name: Trajectory(_POSES[name], *facts) for name, facts in PATHS.items()}


def find_trajectory(name: str) -> Trajectory:
    """The trajectory of a name.

    Raises:
        InputError: there is none; names the nearest and lists all. `FREE` and `BETWEEN` say nothing by themselves.
    """
    if name in (FREE, BETWEEN):
        raise InputError(f"the path {name} depends on a model's prediction; ask the pipeline for it, cameras={name!r}")
    if name not in TRAJECTORIES:
        names = [*TRAJECTORIES, BETWEEN, FREE]
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"no camera path named {name}{hint}; there are: {', '.join(names)}, or give a camera file")
    return TRAJECTORIES[name]


def trajectory(
    name: str,
    frames: int,
    K_px: Tensor,
    height: int,
    width: int,
    scene_depth: float = 1.0,
    extent: float | None = None,
    easing: str = "linear",
) -> Cameras:
    """`frames` cameras of a named path.

    K_px: [3, 3], of every frame. scene_depth: what one unit of extent means for paths that move. extent: how far the
    path goes, in the path's unit; None for its usual one. easing: `linear`, or `ease` for a soft start and end.
    """
    path = find_trajectory(name)
    if easing not in EASINGS:
        raise InputError(f"no easing named {easing}; there are: {', '.join(EASINGS)}")
    if not math.isfinite(scene_depth) or scene_depth <= 0:
        raise InputError(f"the scene's depth must be positive, not {scene_depth}")
    extent = path.extent if extent is None else extent
    if not math.isfinite(extent):
        raise InputError(f"a path's extent must be a number, not {extent}")
    t = EASINGS[easing](torch.linspace(0, 1, frames))
    return Cameras(path.pose(t, extent, scene_depth), K_px.float().cpu().repeat(frames, 1, 1), height, width)


def resample(cameras: Cameras, frames: int) -> Cameras:
    """`frames` cameras spread evenly over the path: translations linearly, rotations by the shortest arc, focal
    lengths by their logarithm. The first and the last stay exactly; a single camera is repeated."""
    if frames < 1:
        raise InputError(f"a camera path needs at least 1 frame, not {frames}")
    count = len(cameras)
    if frames == count:
        return cameras
    if count == 1:
        T, K = cameras.T_world_camera.repeat(frames, 1, 1), cameras.K_px.repeat(frames, 1, 1)
        return Cameras(T, K, cameras.height, cameras.width)
    known, wanted = np.arange(count), np.linspace(0, count - 1, frames)
    source = cameras.T_world_camera.double().cpu().numpy()
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, :3] = Slerp(known, Rotation.from_matrix(source[:, :3, :3]))(wanted).as_matrix()
    T[:, :3, 3] = np.stack([np.interp(wanted, known, source[:, i, 3]) for i in range(3)], -1)
    K = np.tile(np.eye(3), (frames, 1, 1))
    intrinsics = cameras.K_px.double().cpu().numpy()
    for i in (0, 1):
        K[:, i, i] = np.exp(np.interp(wanted, known, np.log(intrinsics[:, i, i])))
        K[:, i, 2] = np.interp(wanted, known, intrinsics[:, i, 2])
    for ours, theirs in ((T, source), (K, intrinsics)):
        ours[0] = theirs[0]
        ours[-1] = theirs[-1]
    return Cameras(torch.from_numpy(T).float(), torch.from_numpy(K).float(), cameras.height, cameras.width)
