"""Values of JSON files, which may be of any kind."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen3r.errors import InputError
from gen3r.media.crop import Size


def number(values: Mapping[str, Any], key: str, where: str) -> float:
    """A finite number.

    Raises:
        InputError: it is missing or not one; the message begins with `where`.
    """
    try:
        value = float(values[key])
    except KeyError as error:
        raise InputError(f"{where} lacks {key}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where} has a {key} that is no number; export the cameras again") from error
    if not math.isfinite(value):
        raise InputError(f"{where} has a {key} that is not finite; export the cameras again")
    return value


def image_size(values: Mapping[str, Any], height: str, width: str, where: str) -> Size:
    """(height, width) in whole pixels. Errors as `number`; `PosedImages` checks the range."""
    return round(number(values, height, where)), round(number(values, width, where))


def matrix(value: Any, where: str) -> np.ndarray:
    """A pose [4, 4], float64, of 4 x 4 or 3 x 4 numbers, as rows or one after another.

    Raises:
        InputError: it is none.
    """
    try:
        rows = np.array(value, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where} has a pose that is no matrix of numbers; export the cameras again") from error
    if rows.size not in (12, 16) or rows.shape not in ((3, 4), (4, 4), (12,), (16,)):
        raise InputError(f"{where} has a pose of shape {[*rows.shape]}, not [4, 4]")
    pose = np.eye(4)
    pose[: rows.size // 4] = rows.reshape(-1, 4)
    return pose


def calibration(value: Any, where: str) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a matrix [3, 3] of intrinsics.

    Raises:
        InputError: it is none, is transposed, or has a skew.
    """
    try:
        K = np.array(value, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where} has intrinsics that are no matrix of numbers; export the cameras again") from error
    if K.shape != (3, 3):
        raise InputError(f"{where} has intrinsics of shape {[*K.shape]}, not [3, 3]")
    if K[2, :2].any() and not K[:2, 2].any():
        raise InputError(f"{where} has intrinsics that are transposed; cx and cy are the last column")
    if K[2].tolist() != [0, 0, 1] or K[0, 1] or K[1, 0]:
        raise InputError(f"{where} has intrinsics with a skew or a last row that is not 0 0 1; give a pinhole's")
    return (K[0, 0].item(), K[1, 1].item(), K[0, 2].item(), K[1, 2].item())
