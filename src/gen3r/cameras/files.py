"""Camera paths in files: ours, nerfstudio's, COLMAP's and RealEstate10K's, told apart by their content."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.colmap import read_colmap
from gen3r.cameras.conventions import opengl_to_opencv
from gen3r.errors import InputError
from gen3r.files import whole_file

REALESTATE_SIZE = (360, 640)


def write_cameras(path: str | Path, cameras: Cameras) -> None:
    """Writes our JSON, whole or not at all; `read_cameras` gives back the same float32 numbers."""
    with whole_file(Path(path)) as partial:
        partial.write_text(json.dumps(cameras.to_json(), indent=1) + "\n", encoding="utf-8")


def read_cameras(path: str | Path, size: tuple[int, int] = REALESTATE_SIZE) -> Cameras:
    """The cameras of a file or, for COLMAP, of a folder with cameras.txt/.bin and images.txt/.bin.

    size: (height, width) of the picture, used only by RealEstate10K files, whose intrinsics are fractions of it.

    Raises:
        InputError: nothing there, an unknown or damaged format, or cameras that are none.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_colmap(path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no camera file at {path}") from error
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a camera file: it is no text ({error})") from error
    if not text.strip():
        raise InputError(f"{path} is empty; export the cameras again")
    try:
        if text.lstrip().startswith(("{", "[")):
            return _from_json(json.loads(text))
        return _realestate(text, size)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not whole JSON (line {error.lineno}); export the cameras again") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _from_json(data: Any) -> Cameras:
    if isinstance(data, dict) and data.get("format") == "gen3r-cameras":
        return Cameras.from_json(data)
    if isinstance(data, dict) and isinstance(data.get("frames"), list):
        return _nerfstudio(data)
    raise InputError("this JSON holds no cameras; give Gen3R's cameras.json or nerfstudio's transforms.json")


def _nerfstudio(data: dict[str, Any]) -> Cameras:
    """nerfstudio's transforms.json: camera-to-world, OpenGL axes; a frame's intrinsics go before the global ones."""
    if not data["frames"]:
        raise InputError("its list of frames is empty")
    poses, intrinsics, sizes = [], [], set()
    for i, frame in enumerate(data["frames"]):
        values = {**data, **frame}
        try:
            matrix = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            width, height = float(values["w"]), float(values["h"])
            if "fl_x" in values:
                fx = float(values["fl_x"])
            else:
                fx = width / 2 / math.tan(float(values["camera_angle_x"]) / 2)
            fy = float(values.get("fl_y", fx))
            cx, cy = float(values.get("cx", width / 2)), float(values.get("cy", height / 2))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"frame {i} lacks or misstates {error}") from error
        if matrix.shape == (3, 4):
            matrix = torch.cat([matrix, torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)])
        if matrix.shape != (4, 4):
            raise InputError(f"frame {i} has a transform_matrix of shape {list(matrix.shape)}, not [4, 4]")
        poses.append(matrix)
        intrinsics.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        sizes.add((int(height), int(width)))
    if len(sizes) > 1:
        raise InputError(f"its frames have {len(sizes)} different sizes; give one size")
    if any(values.get(k) for k in ("k1", "k2", "p1", "p2")):
        warnings.warn("the lens distortion in the camera file is ignored", stacklevel=3)
    height, width = sizes.pop()
    return Cameras(opengl_to_opencv(torch.stack(poses)).float(), torch.tensor(intrinsics), height, width)


def _realestate(text: str, size: tuple[int, int]) -> Cameras:
    """RealEstate10K: a URL, then a line a frame: time, fx fy cx cy as fractions, 0 0, world-to-camera 3 x 4."""
    lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if len(lines[0][1]) == 1:
        lines = lines[1:]
    if not lines:
        raise InputError("it holds no camera")
    rows = []
    for number, fields in lines:
        if len(fields) != 19:
            raise InputError(f"line {number} has {len(fields)} numbers, a RealEstate10K line has 19")
        try:
            rows.append([float(x) for x in fields])
        except ValueError as error:
            raise InputError(f"line {number}: {error}") from error
    values = np.asarray(rows)
    height, width = size
    K = np.zeros((len(values), 3, 3))
    K[:, 0, 0], K[:, 1, 1] = values[:, 1] * width, values[:, 2] * height
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = values[:, 3] * width, values[:, 4] * height, 1
    T = np.tile(np.eye(4), (len(values), 1, 1))
    T[:, :3] = values[:, 7:].reshape(-1, 3, 4)
    if not np.isfinite(T).all() or (np.abs(np.linalg.det(T)) < 1e-6).any():
        raise InputError("it holds a pose that is not finite or cannot be inverted")
    return Cameras(torch.from_numpy(np.linalg.inv(T)).float(), torch.from_numpy(K).float(), height, width)
