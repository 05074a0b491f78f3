"""Depth from a laser's points, without those on things that move."""

import numpy as np
import torch

from gen3r.data.readers.frames import keep_known

NEAREST, FARTHEST = 0.1, 1e4  # of the depths that count
MARGIN = 1.1  # boxes are drawn tight, and scans are not instantaneous


def sparse_depth(points: np.ndarray, intrinsics: tuple[float, ...], size: tuple[int, int]) -> torch.Tensor:
    """Depth float32 [H, W] of points [N, 3] in a camera's frame (OpenCV axes); 0 where no point falls.

    Of two points on a pixel the nearer counts. intrinsics: fx, fy, cx, cy in pixels. size: (height, width).
    """
    fx, fy, cx, cy = intrinsics
    height, width = size
    x, y, z = points[points[:, 2] > NEAREST].T
    column, row = np.floor(x / z * fx + cx), np.floor(y / z * fy + cy)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    depth = np.full(height * width, np.inf)
    np.minimum.at(depth, (row * width + column)[inside].astype(int), z[inside])
    return keep_known(depth.reshape(height, width), FARTHEST)


def transformed(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [N, 3] under T [4, 4]."""
    return points @ T[:3, :3].T + T[:3, 3]


def outside(points: np.ndarray, T_box_points: np.ndarray) -> np.ndarray:
    """The points [M, 3] of [N, 3] that lie in none of the boxes.

    T_box_points: [B, 4, 4], from the points' frame to each box's, in which it reaches from -1 to 1 along every axis.
    """
    kept = points
    for T in T_box_points:
        kept = kept[np.abs(transformed(T, kept)).max(-1) > MARGIN]
    return kept
