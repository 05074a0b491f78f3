"""KITTI-360."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gen3r.data.readers.base import (
    PictureFiles,
    Reader,
    as_pose,
    inverse,
    keep_known,
    make_cameras,
    number_table,
    text_lines,
)
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError

FEWEST = 2  # frames of a piece


class KITTI360(Reader):
    """KITTI-360 (Liao et al., 2022), the rectified left camera.

    Tree: calibration/{perspective.txt, calib_cam_to_velo.txt}, data_poses/<drive>/cam0_to_world.txt,
    data_2d_raw/<drive>/image_00/data_rect/0000000001.png and, for depth,
    data_3d_raw/<drive>/velodyne_points/data/0000000001.bin. Poses: frame number and 16 numbers row by row, camera 0
    to world, OpenCV axes, metres. Standing frames have no pose, so numbers are matched, never rows, and a drive is cut
    into pieces where numbers are missing. Intrinsics: P_rect_00. Depth: the laser's points, sparse, in metres.

    Licence: CC BY-NC-SA 3.0.
    """

    name = "kitti360"
    licence = "CC BY-NC-SA 3.0"
    layout = "data_poses/<drive>/cam0_to_world.txt and data_2d_raw/<drive>/image_00/data_rect"

    def find_scenes(self) -> Iterator[str]:
        """Pieces of drives, named by drive and first frame."""
        for path in self.root.glob("data_poses/*/cam0_to_world.txt"):
            with self.tolerant():
                for first in self._pieces(path.parent.name):
                    yield f"{path.parent.name}/{first:010d}"

    def read(self, scene: str) -> ClipRecord:
        drive, first = scene.split("/")
        pieces = self._pieces(drive)
        if int(first) not in pieces:
            raise InputError(f"{self.root}: no piece of {drive} starts at frame {first}")
        numbers, poses = pieces[int(first)]
        pictures = self.root / "data_2d_raw" / drive / "image_00" / "data_rect"
        scans = self.root / "data_3d_raw" / drive / "velodyne_points" / "data"
        (width, height), P = (self._calibration[k] for k in ("S_rect_00", "P_rect_00"))
        size, K = (round(height), round(width)), np.array([P[0], P[5], P[2], P[6]])
        paths = [scans / f"{n:010d}.bin" for n in numbers]
        read_depth = LaserDepth(paths, self._camera_from_laser, tuple(K), size) if scans.is_dir() else None
        return ClipRecord(
            self.name, scene, make_cameras(poses, K, size),
            PictureFiles([pictures / f"{n:010d}.png" for n in numbers]), read_depth, metric=True,
        )  # fmt: skip

    def _pieces(self, drive: str) -> dict[int, tuple[list[int], np.ndarray]]:
        """First frame -> the frames and poses of a piece."""
        if drive not in self.cached:
            self.cached[drive] = self._read_pieces(drive)
        return self.cached[drive]

    def _read_pieces(self, drive: str) -> dict[int, tuple[list[int], np.ndarray]]:
        rows = number_table(self.root / "data_poses" / drive / "cam0_to_world.txt", 17)
        folder = self.root / "data_2d_raw" / drive / "image_00" / "data_rect"
        there = {int(p.stem) for p in folder.glob("*.png")}
        rows = rows[[int(n) in there for n in rows[:, 0]]]
        pieces = np.split(rows, np.flatnonzero(np.diff(rows[:, 0]) != 1) + 1)
        return {int(p[0, 0]): ([int(n) for n in p[:, 0]], as_pose(p[:, 1:])) for p in pieces if len(p) >= FEWEST}

    @cached_property
    def _calibration(self) -> dict[str, list[float]]:
        path = self.root / "calibration" / "perspective.txt"
        entries = dict(line.split(":", 1) for line in text_lines(path) if ":" in line)
        counts = {"P_rect_00": 12, "R_rect_00": 9, "S_rect_00": 2}
        try:
            found = {k: [float(x) for x in entries[k].split()] for k in counts}
        except (KeyError, ValueError) as error:
            raise InputError(f"{path} lacks or misstates {error}") from error
        if any(len(found[k]) != n for k, n in counts.items()):
            raise InputError(f"{path} has too few numbers; download it again")
        return found

    @cached_property
    def _camera_from_laser(self) -> np.ndarray:
        path = self.root / "calibration" / "calib_cam_to_velo.txt"
        T_laser_camera = as_pose(number_table(path, 12))
        rectify = np.eye(4)
        rectify[:3, :3] = np.reshape(self._calibration["R_rect_00"], (3, 3))
        return rectify @ inverse(T_laser_camera, path)[0]


@dataclass(frozen=True)
class LaserDepth:
    """Depth from a laser's points: number -> float32 [H, W], 0 where no point falls; of two points the nearer counts.

    paths: float32 x y z reflectance. T_camera_laser: 4 x 4. intrinsics: fx, fy, cx, cy in pixels.
    """

    paths: Sequence[Path]
    T_camera_laser: np.ndarray
    intrinsics: tuple[float, ...]
    size: tuple[int, int]

    def __call__(self, number: int) -> torch.Tensor:
        try:
            points = np.fromfile(self.paths[number], np.float32).reshape(-1, 4)[:, :3]
        except (OSError, ValueError) as error:
            raise InputError(f"{self.paths[number]} cannot be read ({error}); download it again") from error
        if not len(points):
            raise InputError(f"{self.paths[number]} cannot be read (it is empty); download it again")
        x, y, z = self.T_camera_laser[:3, :3] @ points.T + self.T_camera_laser[:3, 3:]
        fx, fy, cx, cy = self.intrinsics
        height, width = self.size
        x, y, z = (values[z > 0.1] for values in (x, y, z))
        column, row = np.floor(x / z * fx + cx), np.floor(y / z * fy + cy)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        depth = np.full(height * width, np.inf)
        np.minimum.at(depth, (row * width + column)[inside].astype(int), z[inside])
        return keep_known(depth.reshape(height, width), 1e4)
