"""KITTI-360."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from gen3r.cameras.camera import make_cameras
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import PictureFiles
from gen3r.data.readers.lasers import outside, sparse_depth, transformed
from gen3r.data.readers.poses import as_pose, inverse
from gen3r.data.readers.text import number_table, text_lines
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError

FEWEST = 2  # frames of a piece


class KITTI360(Reader):
    """KITTI-360 (Liao et al., 2022), the rectified left camera.

    Tree: calibration/{perspective.txt, calib_cam_to_velo.txt}, data_poses/<drive>/cam0_to_world.txt,
    data_2d_raw/<drive>/image_00/data_rect/0000000001.png and, for depth,
    data_3d_raw/<drive>/velodyne_points/data/0000000001.bin. Poses: frame number and 16 numbers row by row, camera 0
    to world, OpenCV axes, metres. Standing frames have no pose, so numbers are matched, never rows, and a drive is cut
    into pieces where numbers are missing. Intrinsics: P_rect_00. Depth: the laser's points, sparse, in metres; where
    data_3d_bboxes/train_full/<drive>.xml (or train) is there, without those in boxes that it gives a timestamp, which
    is what it does with things that move (the images with labels do not tell a parked car from a driving one).

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

    def read_scene(self, scene: str) -> ClipRecord:
        drive, first = self.name_parts(scene, 2)
        pieces = self._pieces(drive)
        if not first.isdecimal() or int(first) not in pieces:
            raise self.unknown(scene)
        numbers, poses = pieces[int(first)]
        pictures = self.root / "data_2d_raw" / drive / "image_00" / "data_rect"
        scans = self.root / "data_3d_raw" / drive / "velodyne_points" / "data"
        (width, height), P = (self._calibration[k] for k in ("S_rect_00", "P_rect_00"))
        size, K = (round(height), round(width)), np.array([P[0], P[5], P[2], P[6]])
        read_depth = None
        if scans.is_dir():
            paths = [scans / f"{n:010d}.bin" for n in numbers]
            T_world_laser = poses @ self._camera_from_laser
            moving = self._moving(drive, numbers, T_world_laser)
            read_depth = LaserDepth(paths, self._camera_from_laser, tuple(K), size, moving)
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

    def _moving(self, drive: str, numbers: Sequence[int], T_world_laser: np.ndarray) -> list[np.ndarray]:
        """The boxes of what moves in each frame, seen from the laser; none where the package is not there."""
        found = sorted(self.root.glob(f"data_3d_bboxes/*/{drive}.xml"))  # train_full holds more than train
        boxes = moving_boxes(found[-1]) if found else {}
        return [np.reshape(boxes.get(n, []), (-1, 4, 4)) @ T for n, T in zip(numbers, T_world_laser, strict=True)]

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
    """Depth from a laser's points: number -> float32 [H, W], 0 where no point falls.

    paths: float32 x y z reflectance. T_camera_laser: 4 x 4. intrinsics: fx, fy, cx, cy in pixels. moving: of each
    frame the boxes of what moves, [B, 4, 4], from the laser to where they reach from -1 to 1.
    """

    paths: Sequence[Path]
    T_camera_laser: np.ndarray
    intrinsics: tuple[float, ...]
    size: tuple[int, int]
    moving: Sequence[np.ndarray]

    def __call__(self, number: int) -> torch.Tensor:
        try:
            points = np.fromfile(self.paths[number], np.float32).reshape(-1, 4)[:, :3].astype(float)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.paths[number]} cannot be read ({error}); download it again") from error
        if not len(points):
            raise InputError(f"{self.paths[number]} cannot be read (it is empty); download it again")
        points = outside(points, self.moving[number])
        return sparse_depth(transformed(self.T_camera_laser, points), self.intrinsics, self.size)


@lru_cache(maxsize=1)
def moving_boxes(path: Path) -> dict[int, list[np.ndarray]]:
    """By frame, the boxes of what moves: 4 x 4, from the world to where the box reaches from -1 to 1.

    The file is OpenCV's XML: objects with a transform from their own axes to the world, vertices, and a timestamp, the
    frame of the box; -1 for what stands still.
    """
    moving = defaultdict(list)
    try:
        for _, node in ElementTree.iterparse(path):
            if node.find("transform") is None:
                continue
            if (frame := int(node.findtext("timestamp", ""))) >= 0:
                vertices = _matrix(node, "vertices")
                T = np.eye(4)
                T[:3, :3] = np.diag(np.ptp(vertices, axis=0) / 2)
                T[:3, 3] = (vertices.max(0) + vertices.min(0)) / 2
                moving[frame].append(inverse(_matrix(node, "transform") @ T, path))
            node.clear()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} cannot be read as KITTI-360's boxes ({error}); download it again") from error
    return dict(moving)


def _matrix(node: ElementTree.Element, name: str) -> np.ndarray:
    """One of an object's matrices."""
    text = {k: node.findtext(f"{name}/{k}", "") for k in ("rows", "cols", "data")}
    return np.array(text["data"].split(), float).reshape(int(text["rows"]), int(text["cols"]))
