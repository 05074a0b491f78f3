"""Camera paths as TUM's and KITTI's text files: camera-to-world, OpenCV axes, positions in the unit of the cameras."""

import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import quaternion_from_matrix


def to_tum(cameras: Cameras, frames_per_second: float) -> str:
    """TUM's lines `time tx ty tz qx qy qz qw`; the first frame is at 0 [s]."""
    T = cameras.T_world_camera.double()
    times = torch.arange(len(T), dtype=torch.float64)[:, None] / frames_per_second
    return _lines(torch.cat([times, T[:, :3, 3], quaternion_from_matrix(T[:, :3, :3])], -1))


def to_kitti(cameras: Cameras) -> str:
    """KITTI's lines: the 3 x 4 pose of each frame, row by row."""
    return _lines(cameras.T_world_camera.double()[:, :3].flatten(1))


def _lines(rows: torch.Tensor) -> str:
    return "".join(" ".join(f"{x:.9g}" for x in row) + "\n" for row in rows.tolist())
