"""RealEstate10K's camera files, also ACID's."""

from dataclasses import dataclass

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import intrinsic_matrices
from gen3r.errors import InputError
from gen3r.media.crop import Size

NUMBERS = 19  # in a line


@dataclass(frozen=True)
class RealEstateCameras:
    """times: [F], microseconds. fractions: [F, 4], fx, fy, cx, cy over the image's width or height.

    T_world_camera: float64 [F, 4, 4], OpenCV axes.
    """

    times: np.ndarray
    fractions: np.ndarray
    T_world_camera: np.ndarray

    def intrinsics(self, size: Size) -> np.ndarray:
        """fx, fy, cx, cy [F, 4] in pixels of an image (height, width)."""
        height, width = size
        return self.fractions * [width, height, width, height]


def read_realestate(text: str, size: Size) -> Cameras:
    """The cameras of a file's text, for images of a size (height, width). Errors as `parse_realestate`."""
    found = parse_realestate(text)
    K = intrinsic_matrices(found.intrinsics(size))
    return Cameras(torch.from_numpy(found.T_world_camera).float(), K.float(), *size)


def parse_realestate(text: str) -> RealEstateCameras:
    """A line with the video's URL, then one per frame: time, fx fy cx cy, 0 0, world-to-camera 3 x 4 row by row.

    Raises:
        InputError: there is no camera, a line has another count of numbers, or a pose cannot be inverted.
    """
    lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if lines and len(lines[0][1]) == 1:
        lines = lines[1:]
    if not lines:
        raise InputError("it holds no camera")
    values = np.array([_numbers(*line) for line in lines])
    T = np.tile(np.eye(4), (len(values), 1, 1))
    T[:, :3] = values[:, 7:].reshape(-1, 3, 4)
    if not np.isfinite(T).all() or (np.abs(np.linalg.det(T)) < 1e-6).any():
        raise InputError("it holds a pose that is not finite or cannot be inverted")
    return RealEstateCameras(values[:, 0], values[:, 1:5], np.linalg.inv(T))


def _numbers(number: int, fields: list[str]) -> list[float]:
    if len(fields) != NUMBERS:
        raise InputError(f"line {number} has {len(fields)} numbers, a RealEstate10K line has {NUMBERS}")
    try:
        return [float(x) for x in fields]
    except ValueError as error:
        raise InputError(f"line {number}: {error}") from error
