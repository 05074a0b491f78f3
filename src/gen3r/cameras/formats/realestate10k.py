"""RealEstate10K's camera files, also ACID's."""

import numpy as np

from gen3r.cameras.camera import inverted_poses
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError

NUMBERS = 19  # in a line


def parse_realestate(text: str) -> PosedImages:
    """A line with the video's URL, then one per frame: time, fx fy cx cy, 0 0, world-to-camera 3 x 4 row by row.

    The names are the times [us] in whole numbers, by which the frames are in order. Intrinsics are fractions.

    Raises:
        InputError: there is no camera, a line has another count of numbers, or a camera is impossible.
    """
    lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if lines and len(lines[0][1]) == 1:
        lines = lines[1:]
    if not lines:
        raise InputError("it holds no camera; export the cameras again")
    if all(len(fields) != NUMBERS for _, fields in lines):
        raise InputError(
            f"it is no camera file that is read here (text has RealEstate10K's {NUMBERS} numbers a line); give "
            "cameras.json, transforms.json or a COLMAP folder"
        )
    values = np.array([_numbers(*line) for line in lines])
    T = np.tile(np.eye(4), (len(values), 1, 1))
    T[:, :3] = values[:, 7:].reshape(-1, 3, 4)
    names = [f"{time:.0f}" for time in values[:, 0]]
    lenses = [Lens((1, 1), (fx, fy, cx, cy)) for fx, fy, cx, cy in values[:, 1:5].tolist()]
    return PosedImages.checked(inverted_poses(T, names), lenses, names, fractions=True)


def _numbers(number: int, fields: list[str]) -> list[float]:
    if len(fields) != NUMBERS:
        raise InputError(f"line {number} has {len(fields)} numbers, a RealEstate10K line has {NUMBERS}")
    try:
        return [float(x) for x in fields]
    except ValueError as error:
        raise InputError(f"line {number}: {error}") from error
