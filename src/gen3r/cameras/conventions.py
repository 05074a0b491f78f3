"""Conversions between camera conventions. Everything inside Gen3R is camera-to-world with OpenCV axes."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Axes = Literal["opencv", "opengl", "z up"]
_WORLDS: dict[Axes, list[list[float]]] = {
    "opencv": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "opengl": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]],
    "z up": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]],
}
MIN_FOV = math.radians(1.0)
MAX_FOV = math.radians(179.0)


def relative_to_first(T_world_camera: Tensor) -> Tensor:
    """Poses [..., F, 4, 4] in the frame of each clip's first camera, which becomes the identity exactly."""
    T = torch.linalg.inv(T_world_camera[..., :1, :, :]) @ T_world_camera
    first = torch.eye(4, dtype=T.dtype, device=T.device).expand_as(T[..., :1, :, :])
    return torch.cat([first, T[..., 1:, :, :]], dim=-3)


def intrinsic_matrices(fx_fy_cx_cy: np.ndarray) -> Tensor:
    """Intrinsics float64 [F, 3, 3] of rows [F, 4] of fx, fy, cx, cy."""
    K = torch.eye(3, dtype=torch.float64).repeat(len(fx_fy_cx_cy), 1, 1)
    K[:, [0, 1, 0, 1], [0, 1, 2, 2]] = torch.tensor(fx_fy_cx_cy, dtype=torch.float64)
    return K


def matrix_from_quaternion(xyzw: Tensor) -> Tensor:
    """Rotations [..., 3, 3] of quaternions [..., 4] in x, y, z, w order, of any length but zero (zero: identity)."""
    norm2 = xyzw.square().sum(-1, keepdim=True)
    identity = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=xyzw.dtype, device=xyzw.device)
    q = torch.where(norm2 > 1e-12, xyzw, identity)
    s = 2 / torch.where(norm2 > 1e-12, norm2, torch.ones_like(norm2))[..., 0]
    x, y, z, w = q.unbind(-1)
    rows = [
        1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quaternion_from_matrix(R: Tensor) -> Tensor:
    """Unit quaternions [..., 4] in x, y, z, w order, w >= 0, of rotations [..., 3, 3]."""
    m = {(i, j): R[..., i, j] for i in range(3) for j in range(3)}
    # Each candidate is four times one component times the quaternion; the one of the largest component is stable.
    x = [1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]]
    y = [m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]]
    z = [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2], m[1, 0] - m[0, 1]]
    w = [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + m[0, 0] + m[1, 1] + m[2, 2]]
    candidates = torch.stack([torch.stack(c, -1) for c in (x, y, z, w)], -2)
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = torch.take_along_dim(candidates, best[..., None, None].expand(*best.shape, 1, 4), -2)[..., 0, :]
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., 3:] < 0, -q, q)


def encode_pose(T_world_camera: Tensor, K_px: Tensor, height: int, width: int) -> Tensor:
    """VGGT's 9 numbers [..., 9]: translation and quaternion (x, y, z, w) of world-to-camera, then vertical and
    horizontal field of view [rad]. The principal point is dropped (VGGT, sec. 3.1)."""
    T_camera_world = torch.linalg.inv(T_world_camera)
    fov_y = 2 * torch.atan(height / 2 / K_px[..., 1, 1])
    fov_x = 2 * torch.atan(width / 2 / K_px[..., 0, 0])
    rotation = quaternion_from_matrix(T_camera_world[..., :3, :3])
    return torch.cat([T_camera_world[..., :3, 3], rotation, torch.stack([fov_y, fov_x], -1)], -1)


def decode_pose(
    pose_enc: Tensor, height: int, width: int, fov_limits: tuple[float, float] = (MIN_FOV, MAX_FOV)
) -> tuple[Tensor, Tensor]:
    """Camera-to-world poses [..., 4, 4] and intrinsics [..., 3, 3] of VGGT's 9 numbers [..., 9].

    The principal point is the image's centre. Fields of view are kept within `fov_limits` [rad], 1 to 179 degrees,
    so that a head that says 0 gives a long lens instead of an infinite one.
    """
    R = matrix_from_quaternion(pose_enc[..., 3:7])
    T = torch.eye(4, dtype=pose_enc.dtype, device=pose_enc.device).repeat(*pose_enc.shape[:-1], 1, 1)
    T[..., :3, :3] = R.mT
    T[..., :3, 3] = -(R.mT @ pose_enc[..., :3, None])[..., 0]
    fov = pose_enc[..., 7:].clamp(*fov_limits)
    K = torch.zeros(*pose_enc.shape[:-1], 3, 3, dtype=pose_enc.dtype, device=pose_enc.device)
    K[..., 0, 0] = width / 2 / torch.tan(fov[..., 1] / 2)
    K[..., 1, 1] = height / 2 / torch.tan(fov[..., 0] / 2)
    K[..., 0, 2], K[..., 1, 2], K[..., 2, 2] = width / 2, height / 2, 1
    return T, K


def square_pixels(K_px: Tensor) -> Tensor:
    """Intrinsics [..., 3, 3] with one focal length, that of the shorter side: a photo's pixels are square.

    A camera head that has seen few shapes of images says angles of view that do not fit the shape. That of the shorter
    side is nearer to the truth. The principal point is the centre.
    """
    shorter = K_px[..., 0, 2] < K_px[..., 1, 2]
    K = K_px.clone()
    K[..., 0, 0] = K[..., 1, 1] = torch.where(shorter, K_px[..., 0, 0], K_px[..., 1, 1])
    return K


def opengl_to_opencv(T_world_camera: Tensor) -> Tensor:
    """Poses [..., 4, 4] with camera axes x right, y up, z backward (OpenGL, nerfstudio, Blender), and the inverse."""
    return T_world_camera * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=T_world_camera.dtype)


def world_axes(axes: Axes) -> Tensor:
    """The turn [4, 4], float64, from a world with OpenCV axes to one with other axes: `T_axes_opencv`.

    opengl: x right, y up, z backward (glTF, three.js). z up: x right, y forward, z up (nerfstudio, ROS maps).
    """
    return torch.tensor(_WORLDS[axes], dtype=torch.float64)


def colmap_to_opencv(quaternion: Tensor, translation: Tensor) -> Tensor:
    """Poses [..., 4, 4] of COLMAP's world-to-camera quaternions [..., 4], w first, and translations [..., 3]."""
    return torch.linalg.inv(_pose(matrix_from_quaternion(quaternion.roll(-1, -1)), translation))


def pytorch3d_to_opencv(R: Tensor, T: Tensor) -> Tensor:
    """Poses [..., 4, 4] of PyTorch3D's R [..., 3, 3] and T [..., 3]: x_view = x_world R + T; x left, y up, z ahead."""
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=R.dtype)
    return torch.linalg.inv(_pose(flip[:, None] * R.mT, flip * T))


def ned_to_opencv(T_world_camera: Tensor) -> Tensor:
    """Poses [..., 4, 4] whose world and camera axes are north-east-down (TartanAir): x forward, y right, z down."""
    turn = torch.zeros(4, 4, dtype=T_world_camera.dtype)
    turn[0, 2] = turn[1, 0] = turn[2, 1] = turn[3, 3] = 1
    return turn.mT @ T_world_camera @ turn


def _pose(R: Tensor, t: Tensor) -> Tensor:
    T = torch.eye(4, dtype=R.dtype).repeat(*R.shape[:-2], 1, 1)
    T[..., :3, :3], T[..., :3, 3] = R, t
    return T
