"""nerfstudio's camera_path.json, which its viewer writes."""

import math
from typing import Any

import numpy as np
import torch

from gen3r.cameras.conventions import opengl_to_opencv
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.formats.values import image_size, matrix, number
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError


def parse_camera_path(data: dict[str, Any]) -> PosedImages:
    """The cameras of the path: camera_to_world of 16 numbers, OpenGL axes, and vertical field of view [deg].

    Raises:
        InputError: an entry is missing or misstated, or the path is for a fisheye or a panorama.
    """
    kind = str(data.get("camera_type", "perspective"))
    if kind != "perspective":
        raise InputError(f"the camera type {kind} is not supported; set the path's camera to perspective")
    size, frames = image_size(data, "render_height", "render_width", "the camera path"), data["camera_path"]
    if not isinstance(frames, list):
        raise InputError("its camera_path is no list of cameras; export it again")
    poses, lenses = [], []
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict) or "camera_to_world" not in frame:
            raise InputError(f"frame {i} lacks camera_to_world")
        fov = number(frame, "fov", f"frame {i}")
        if not 0 < fov < 180:
            raise InputError(f"frame {i} has a fov of {fov:g} degrees; it lies between 0 and 180")
        focal = size[0] / 2 / math.tan(math.radians(fov) / 2)
        lenses.append(Lens(size, (focal, focal, size[1] / 2, size[0] / 2)))
        poses.append(matrix(frame["camera_to_world"], f"frame {i}"))
    T = opengl_to_opencv(torch.from_numpy(np.array(poses).reshape(-1, 4, 4)))
    return PosedImages.checked(T.numpy(), lenses)
