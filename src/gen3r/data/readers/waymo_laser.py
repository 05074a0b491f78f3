"""Depth from the range images of Waymo's top laser."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from gen3r.data.readers.lasers import outside, sparse_depth, transformed
from gen3r.data.readers.parquet import read_rows
from gen3r.data.readers.poses import inverse
from gen3r.errors import InputError

TIME, LASER = "key.frame_timestamp_micros", "key.laser_name"
TOP = 1
NEEDED, LABELS = ("lidar", "lidar_calibration", "lidar_pose"), ("lidar_box", "vehicle_pose")
STANDING = 0.2  # metres a second: what Waymo's own evaluation calls stationary
_CALIBRATION, _BOX = "[LiDARCalibrationComponent]", "[LiDARBoxComponent]"


@dataclass(frozen=True)
class RangeDepth:
    """Depth of the top laser's first returns: number -> float32 [H, W], in metres, sparse, 0 where unknown.

    split: the folder of the components. times: of the frames, in microseconds. T_world_camera: [F, 4, 4], OpenCV axes.
    intrinsics: fx, fy, cx, cy in pixels. size: (height, width).
    """

    split: Path
    segment: str
    times: Sequence[int]
    T_world_camera: np.ndarray
    intrinsics: tuple[float, ...]
    size: tuple[int, int]

    @classmethod
    def available(cls, split: Path, segment: str, components: Sequence[str] = NEEDED) -> bool:
        """Whether the components of a segment were downloaded."""
        return all((split / c / f"{segment}.parquet").is_file() for c in components)

    def __call__(self, number: int) -> torch.Tensor:
        time = self.times[number]
        T_vehicle_laser, inclinations = _calibration(self._file("lidar_calibration"))
        picture = _picture(self._file("lidar"), "LiDARComponent", time, 4)
        poses = _picture(self._file("lidar_pose"), "LiDARPoseComponent", time, 6)
        points = laser_points(picture, poses, T_vehicle_laser, inclinations)
        if self.available(self.split, self.segment, LABELS):
            points = outside(points, self._moving(time))
        T_camera_world = inverse(self.T_world_camera[number], self._file("camera_image"))
        return sparse_depth(transformed(T_camera_world, points), self.intrinsics, self.size)

    def _file(self, component: str) -> Path:
        return self.split / component / f"{self.segment}.parquet"

    def _moving(self, time: int) -> np.ndarray:
        """From the world to the boxes of what moves [B, 4, 4], each from -1 to 1."""
        column = "[VehiclePoseComponent].world_from_vehicle.transform"
        pose = read_rows(self._file("vehicle_pose"), [column], {TIME: time})[column].to_pylist()
        parts = [f"{part}.{axis}" for part in ("box.center", "box.size", "speed") for axis in "xyz"]
        names = [f"{_BOX}.{part}" for part in (*parts, "box.heading")]
        rows = read_rows(self._file("lidar_box"), names, {TIME: time})
        table = np.array([rows[n].to_pylist() for n in names], float).T
        if len(pose) != 1 or np.size(pose[0]) != 16:
            raise InputError(f"{self._file('vehicle_pose')} has no pose at {time}; download it again")
        T_vehicle_world = inverse(np.reshape(pose[0], (4, 4)), self._file("vehicle_pose"))
        fast = table[np.linalg.norm(np.nan_to_num(table[:, 6:9]), axis=-1) > STANDING]
        if not len(fast):
            return np.zeros((0, 4, 4))
        T_box_vehicle = np.tile(np.eye(4), (len(fast), 1, 1))
        turn = Rotation.from_rotvec(-fast[:, 9:] * [0, 0, 1]).as_matrix()
        T_box_vehicle[:, :3, :3] = turn * 2 / fast[:, 3:6, None]
        T_box_vehicle[:, :3, 3:] = -T_box_vehicle[:, :3, :3] @ fast[:, :3, None]
        return T_box_vehicle @ T_vehicle_world


def laser_points(
    picture: np.ndarray, poses: np.ndarray, T_vehicle_laser: np.ndarray, inclinations: np.ndarray
) -> np.ndarray:
    """World points [N, 3] of a range image [H, W, 4] (range, intensity, elongation, in a zone without labels).

    poses: [H, W, 6], vehicle to world when the beam was out: roll, pitch, yaw about x, y, z (yaw last), x, y, z.
    inclinations: [H], each row's angle over the laser's xy plane. Columns go round once, clockwise from above, the
    middle one along the vehicle's x. Beams into zones without labels are left out: what moves there is not known.
    """
    row, column = np.nonzero((picture[..., 0] > 0) & (picture[..., 3] <= 0))
    ranges, pose = picture[row, column, 0].astype(float), poses[row, column].astype(float)
    yaw = np.arctan2(T_vehicle_laser[1, 0], T_vehicle_laser[0, 0])
    azimuth = np.pi * (1 - (2 * column + 1) / picture.shape[1]) - yaw
    flat, up = np.cos(inclinations[row]), np.sin(inclinations[row])
    beam = ranges[:, None] * np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat, up], -1)
    vehicle = transformed(T_vehicle_laser, beam)
    if not len(vehicle):
        return vehicle
    return Rotation.from_euler("ZYX", pose[:, [2, 1, 0]]).apply(vehicle) + pose[:, 3:]


def _picture(path: Path, component: str, time: int, channels: int) -> np.ndarray:
    """A range image [H, W, channels] of the top laser."""
    names = [f"[{component}].range_image_return1.{k}" for k in ("values", "shape")]
    table = read_rows(path, names, {TIME: time, LASER: TOP})
    values, shape = (np.concatenate([c.flatten().to_numpy() for c in table[n].chunks] or [[]]) for n in names)
    if len(shape) != 3 or shape[2] != channels or len(values) != np.prod(shape):
        raise InputError(f"{path} has no whole range image at {time}; download it again")
    return values.reshape(shape)


@lru_cache(maxsize=2)
def _calibration(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Laser to vehicle [4, 4], and the rows' inclinations [H] from the highest, which is the image's first row."""
    names = [f"{_CALIBRATION}.{k}" for k in ("extrinsic.transform", "beam_inclination.values")]
    table = read_rows(path, names, {LASER: TOP})
    try:
        T, rising = (np.array(table[n].to_pylist()[0], float) for n in names)
        return T.reshape(4, 4), rising[::-1]
    except (IndexError, ValueError, TypeError) as error:
        raise InputError(f"{path} lacks the top laser or misstates it ({error})") from error
