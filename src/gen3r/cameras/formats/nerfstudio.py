"""nerfstudio's transforms.json, also instant-ngp's, Polycam's and Record3D's."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import intrinsic_matrices, opengl_to_opencv, world_axes
from gen3r.errors import InputError
from gen3r.media.crop import Size

DISTORTION = ("k1", "k2", "p1", "p2", "k3")  # OpenCV's order


@dataclass(frozen=True)
class Transforms:
    """The cameras of a transforms.json.

    poses: float64 [F, 4, 4], as written. intrinsics: [F, 4], fx, fy, cx, cy in pixels of `size` (height, width).
    distortion: [F, 5], k1, k2, p1, p2, k3.
    """

    poses: np.ndarray
    intrinsics: np.ndarray
    distortion: np.ndarray
    size: Size


def read_nerfstudio(data: dict[str, Any]) -> Cameras:
    """The cameras of nerfstudio's JSON: camera-to-world, OpenGL axes. The lens distortion is ignored, with a warning.

    Raises:
        InputError: as `parse_transforms`; a frame has no size.
    """
    found = parse_transforms(data)
    if found.distortion.any():
        warnings.warn("the lens distortion in the camera file is ignored", stacklevel=3)
    poses, K = opengl_to_opencv(torch.from_numpy(found.poses)), intrinsic_matrices(found.intrinsics)
    return Cameras(poses.float(), K.float(), *found.size)


def parse_transforms(data: dict[str, Any], size: Size | None = None) -> Transforms:
    """The cameras of a transforms.json. A frame's own values take precedence over those of the whole scene.

    size: (height, width) of the stored images, to which intrinsics are scaled; None for the size in the file.

    Raises:
        InputError: there are no frames, an entry is missing or misstated, or the frames differ in size.
    """
    if not isinstance(data.get("frames"), list) or not data["frames"]:
        raise InputError("its list of frames is empty")
    frames = [_frame(i, data, frame, size) for i, frame in enumerate(data["frames"])]
    poses, intrinsics, distortion, sizes = zip(*frames, strict=True)
    if len(set(sizes)) > 1:
        raise InputError(f"its frames have {len(set(sizes))} different sizes; give one size")
    return Transforms(np.stack(poses), np.stack(intrinsics), np.stack(distortion), sizes[0])


def _frame(
    number: int, data: dict[str, Any], frame: dict[str, Any], size: Size | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Size]:
    try:
        stored = {} if size is None else {"h": size[0], "w": size[1]}
        values = {**stored, **data, **frame}
        matrix = np.array(frame["transform_matrix"], float)
        w, h = float(values["w"]), float(values["h"])
        fx = float(values["fl_x"]) if "fl_x" in values else w / 2 / math.tan(float(values["camera_angle_x"]) / 2)
        row = fx, float(values.get("fl_y", fx)), float(values.get("cx", w / 2)), float(values.get("cy", h / 2))
        distortion = np.array([float(values.get(k, 0)) for k in DISTORTION])
        size = size or (int(h), int(w))
        intrinsics = np.array(row) * ([size[1] / w, size[0] / h] * 2)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"frame {number} lacks or misstates {error}") from error
    if matrix.shape not in ((3, 4), (4, 4)):
        raise InputError(f"frame {number} has a transform_matrix of shape {[*matrix.shape]}, not [4, 4]")
    pose = np.eye(4)
    pose[: len(matrix)] = matrix
    return pose, intrinsics, distortion, size


def to_nerfstudio(cameras: Cameras, file_paths: Sequence[str]) -> dict[str, Any]:
    """nerfstudio's JSON object of cameras and their images: a world with z up, OpenGL cameras, no distortion.

    `applied_transform` [3, 4] is the turn from the cameras' own world, as nerfstudio's own tools write it.
    """
    turn = world_axes("z up")
    poses = opengl_to_opencv(turn @ cameras.T_world_camera.double())
    frames = [
        {
            "file_path": name, "fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2],
            "w": cameras.width, "h": cameras.height, "transform_matrix": T,
        }
        for name, T, K in zip(file_paths, poses.tolist(), cameras.K_px.double().tolist(), strict=True)
    ]  # fmt: skip
    return {"camera_model": "OPENCV", "applied_transform": turn[:3].tolist(), "frames": frames}
