"""Poses of a dataset's arrays."""

import numpy as np

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
