"""Waymo Open, the perception data in its parquet form (version 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.lens import Lens
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import read_frame
from gen3r.data.readers.parquet import read_rows
from gen3r.data.readers.waymo_laser import TIME, RangeDepth
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError

CAMERAS = {"FRONT": 1, "FRONT_LEFT": 2, "FRONT_RIGHT": 3, "SIDE_LEFT": 4, "SIDE_RIGHT": 5}
# Waymo's cameras look along x, with y to the left and z up.
OPENCV_FROM_WAYMO = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
NAME = "key.camera_name"
IMAGE, POSE = "[CameraImageComponent].image", "[CameraImageComponent].pose.transform"
BENDS = ("k1", "k2", "p1", "p2", "k3")
_CALIBRATION = "[CameraCalibrationComponent]"


class Waymo(Reader):
    """Waymo Open Dataset v2 (Sun et al., 2020). Needs the extra gen3r[data], for parquet.

    Tree: <split>/{camera_image, camera_calibration}/<segment>.parquet; a scene is a split, a segment and one of the
    five cameras. Poses: vehicle to world at the camera's own time, times camera to vehicle (x forward, y left, z up in
    both), metres. Intrinsics in pixels; lens distortion k1 k2 p1 p2 k3 is undone. Depth: where lidar,
    lidar_calibration and lidar_pose lie beside, the top laser's first returns at their own times, sparse, in metres;
    where lidar_box and vehicle_pose do too, without points in boxes that move. The rolling shutter is not undone.
    The four short lasers, which see what is next to the car, are not read; nor are version 1's records, which need
    TensorFlow.

    Licence: Waymo Dataset License Agreement for Non-Commercial Use.
    """

    name = "waymo"
    licence = "Waymo Dataset License Agreement for Non-Commercial Use"
    layout = "<split>/camera_image/<segment>.parquet and <split>/camera_calibration/<segment>.parquet"

    def find_scenes(self) -> Iterator[str]:
        """Segments with images and calibration; every camera of one is a scene."""
        for path in self.root.glob("*/camera_image/*.parquet"):
            if (path.parents[1] / "camera_calibration" / path.name).is_file():
                for camera in CAMERAS:
                    yield f"{path.parents[1].name}/{path.stem}/{camera}"

    def read_scene(self, scene: str) -> ClipRecord:
        split, segment, camera = self.name_parts(scene, 3)
        if camera not in CAMERAS:
            raise self.unknown(scene)
        path = self.root / split / "camera_image" / f"{segment}.parquet"
        calibration = self.root / split / "camera_calibration" / path.name
        lens, T_vehicle_camera = _lens(calibration, CAMERAS[camera])
        times, poses = _rows(path, POSE, CAMERAS[camera])
        try:
            T = np.array(poses, float).reshape(-1, 4, 4)
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} holds a pose that is not 16 numbers ({error}); download it again") from error
        if not len(T):
            raise InputError(f"{path} has no image of the camera {camera}; leave it out")
        T = T @ T_vehicle_camera @ np.linalg.inv(OPENCV_FROM_WAYMO)
        cameras = make_cameras(T, np.array(lens.intrinsics), lens.size)
        read_depth = None
        if RangeDepth.available(path.parents[1], segment):
            read_depth = RangeDepth(path.parents[1], segment, times, T, lens.intrinsics, lens.size)
        frames = ParquetFrames(path, CAMERAS[camera], lens)
        return ClipRecord(self.name, scene, cameras, frames, read_depth, metric=True)


def _rows(path: Path, column: str, camera: int) -> tuple[list[int], list[Any]]:
    """One camera's times and what a column holds at them, in order."""
    table = read_rows(path, (TIME, column), {NAME: camera}).to_pydict()
    order = np.argsort(table[TIME], kind="stable")
    return [table[TIME][i] for i in order], [table[column][i] for i in order]


def _lens(path: Path, camera: int) -> tuple[Lens, np.ndarray]:
    """The lens, and camera to vehicle [4, 4]."""
    names = [f"{_CALIBRATION}.intrinsic.{k}" for k in ("f_u", "f_v", "c_u", "c_v", *BENDS)]
    others = [f"{_CALIBRATION}.{k}" for k in ("height", "width", "extrinsic.transform")]
    table = read_rows(path, [*names, *others], {NAME: camera}).to_pydict()
    try:
        fx, fy, cx, cy, *bends = (float(table[n][0]) for n in names)
        height, width, T = (table[n][0] for n in others)
        bends = tuple(zip(BENDS, bends, strict=True))
        return Lens((int(height), int(width)), (fx, fy, cx, cy), bends), np.array(T, float).reshape(4, 4)
    except (IndexError, ValueError, TypeError) as error:
        raise InputError(f"{path} lacks camera {camera} or misstates it ({error})") from error


@dataclass(frozen=True)
class ParquetFrames:
    """Frames in a column of JPEGs, in the order of their times: number -> uint8 [H, W, 3], straightened."""

    path: Path
    camera: int
    lens: Lens

    def __call__(self, number: int) -> torch.Tensor:
        frame = read_frame(_pictures(self.path, self.camera)[number], f"image {number} of {self.path}")
        return self.lens.undistort(frame)


@lru_cache(maxsize=1)
def _pictures(path: Path, camera: int) -> list[bytes]:
    """One camera's JPEGs of a segment, about 70 MB; the last ones stay in memory."""
    return _rows(path, IMAGE, camera)[1]
