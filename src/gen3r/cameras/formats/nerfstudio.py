"""nerfstudio's transforms.json, also instant-ngp's, Polycam's and Record3D's."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import opengl_to_opencv, world_axes
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.formats.values import image_size, matrix, number
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError
from gen3r.media.crop import Size
from gen3r.media.decoding import opened
from gen3r.media.images import IMAGE_SUFFIXES

COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")
# nerfstudio bends the lenses of all these models by all the coefficients that the file has.
KINDS = {
    "SIMPLE_PINHOLE": "perspective", "PINHOLE": "perspective", "SIMPLE_RADIAL": "perspective", "RADIAL": "perspective",
    "OPENCV": "perspective", "OPENCV_FISHEYE": "fisheye",
}  # fmt: skip
Values = Mapping[str, Any]


def parse_transforms(
    data: Values, size: Size | None = None, opengl: bool = True, shape: Size | None = None
) -> PosedImages:
    """The cameras of a transforms.json. A frame's own values take precedence over those of the whole scene.

    size: (height, width) of the images, where the file does not say it. opengl: whether the camera's axes are OpenGL's,
    as nerfstudio has them, or OpenCV's. shape: stands in for a size that nothing gives, where lenses are angles.

    Raises:
        InputError: there are no frames, an entry is missing or misstated, or a camera is of a model that is not read.
    """
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise InputError("its list of frames is empty")
    poses, lenses, names = [], [], []
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict) or "transform_matrix" not in frame:
            raise InputError(f"frame {i} lacks transform_matrix")
        poses.append(matrix(frame["transform_matrix"], f"frame {i}"))
        lenses.append(_lens(frame, data, size, shape, f"frame {i}"))
        names.append(str(frame.get("file_path") or ""))
    T = np.array(poses)
    if opengl:
        T = opengl_to_opencv(torch.from_numpy(T)).numpy()
    return PosedImages.checked(T, lenses, names)


def stored_size(data: Values, folder: Path) -> Size | None:
    """(height, width) of the first image that a transforms.json in `folder` names and that is there, as it is stored.

    Errors as `opened`.
    """
    frames = [frame for frame in data["frames"] if isinstance(frame, dict)]
    for name in filter(None, (str(frame.get("file_path") or "").replace("\\", "/") for frame in frames)):
        for suffix in ("", *IMAGE_SUFFIXES):
            if os.path.isfile(path := folder / f"{name}{suffix}"):
                with opened(path) as image:
                    return image.height, image.width
    return None


def _lens(frame: Values, scene: Values, size: Size | None, shape: Size | None, where: str) -> Lens:
    scene, frame = ({k: v for k, v in values.items() if v is not None} for values in (scene, frame))
    values = {**scene, **frame}
    if size is None and not {"fl_x", "fl_y", "cx", "cy"} & values.keys():
        size = shape
    if size is not None:
        values = {"h": size[0], "w": size[1], **values}
    elif not {"h", "w"} <= values.keys():
        raise InputError(f"{where} lacks w and h, and the images that would tell are not there; add w and h")
    fisheye = bool(values.get("is_fisheye"))  # instant-ngp's
    model = str(values.get("camera_model") or ("OPENCV_FISHEYE" if fisheye else "OPENCV")).upper()
    if model not in KINDS:
        raise InputError(f"the camera model {model} is not supported; undistort to {', '.join(KINDS)}")
    kind = "fisheye" if fisheye else KINDS[model]
    height, width = image_size(values, "h", "w", where)
    found = [_focal(frame, scene, axis, side, where) for axis, side in (("x", width), ("y", height))]
    focals = [focal for focal in found if focal is not None]
    if not focals:
        raise InputError(f"{where} lacks fl_x or camera_angle_x")
    fx, fy = focals[0], focals[-1]
    cx, cy = (number(values, c, where) if c in values else side / 2 for c, side in (("cx", width), ("cy", height)))
    bends = tuple((k, number(values, k, where)) for k in COEFFICIENTS if values.get(k))
    return Lens((height, width), (fx, fy, cx, cy), bends, kind, model)


def _focal(frame: Values, scene: Values, axis: str, side: int, where: str) -> float | None:
    """The focal length in pixels along an axis, from the nearest value in any of the ways to write it."""
    for values in (frame, scene):
        if f"fl_{axis}" in values:
            return number(values, f"fl_{axis}", where)
        for key, half_turn in ((f"camera_angle_{axis}", math.pi), (f"{axis}_fov", 180.0)):
            if key in values:
                angle = number(values, key, where)
                if not 0 < angle < half_turn:
                    unit = "radians, not degrees" if half_turn == math.pi else "degrees"
                    raise InputError(f"{where} has a {key} of {angle:g}; give the angle of view in {unit}")
                return side / 2 / math.tan(math.pi * angle / half_turn / 2)
    return None


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
