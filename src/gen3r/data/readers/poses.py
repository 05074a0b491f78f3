"""Cameras of a dataset's arrays."""

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import intrinsic_matrices, relative_to_first
from gen3r.errors import InputError


def as_pose(rows: np.ndarray) -> np.ndarray:
    """Poses [F, 4, 4] of rows of 12 or 16 numbers, row by row."""
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, : rows.shape[1] // 4] = rows.reshape(len(rows), -1, 4)
    return T


def inverse(T: np.ndarray, where: object) -> np.ndarray:
    """Inverted poses.

    Raises:
        InputError: one is not finite or cannot be inverted; names `where`.
    """
    if not np.isfinite(T).all() or (np.abs(np.linalg.det(T)) < 1e-9).any():
        raise InputError(f"{where} holds a pose that is not finite or cannot be inverted")
    return np.linalg.inv(T)


def make_cameras(T_world_camera: np.ndarray, K_px: np.ndarray, size: tuple[int, int]) -> Cameras:
    """Cameras from float64 poses [F, 4, 4] and intrinsics [4] or [F, 4] (fx, fy, cx, cy), for (height, width).

    Poses become relative to the first camera before they are rounded to float32: worlds measured in kilometres from
    their origin lose nothing.
    """
    inverse(T_world_camera[:1], "the sequence")
    poses = relative_to_first(torch.from_numpy(T_world_camera))
    poses[:, 3] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    K = intrinsic_matrices(np.broadcast_to(K_px, (len(poses), 4)))
    return Cameras(poses.float(), K.float(), *size)
