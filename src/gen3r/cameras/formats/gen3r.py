"""Gen3R's cameras.json: camera-to-world poses with OpenCV axes, intrinsics in pixels, nothing lost."""

from typing import Any

import numpy as np

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.formats.values import calibration, image_size, matrix
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError

FORMAT, VERSION = "gen3r-cameras", 1


def cameras_to_json(cameras: Cameras) -> dict[str, Any]:
    """A JSON object from which `parse_gen3r` reads the same float32 numbers."""
    poses, intrinsics = cameras.T_world_camera.double(), cameras.K_px.double()
    return {
        "format": FORMAT,
        "version": VERSION,
        "convention": "camera-to-world, OpenCV axes, intrinsics in pixels",
        "height": cameras.height,
        "width": cameras.width,
        "frames": [{"T_world_camera": T.tolist(), "K_px": K.tolist()} for T, K in zip(poses, intrinsics, strict=True)],
    }


def parse_gen3r(data: dict[str, Any]) -> PosedImages:
    """The inverse of `cameras_to_json`. Images of another shape were cropped to the cameras', as Gen3R crops them.

    Raises:
        InputError: an entry is missing or misstated, or a newer Gen3R wrote the file.
    """
    if data.get("version", VERSION) != VERSION:
        raise InputError(f"it is of version {data['version']}, and this Gen3R reads version {VERSION}; update Gen3R")
    frames, size = data.get("frames"), image_size(data, "height", "width", "the camera file")
    if not isinstance(frames, list):
        raise InputError("the camera file lacks frames")
    poses, lenses = [], []
    for i, frame in enumerate(frames):
        if not (isinstance(frame, dict) and {"T_world_camera", "K_px"} <= frame.keys()):
            raise InputError(f"frame {i} lacks T_world_camera or K_px")
        poses.append(matrix(frame["T_world_camera"], f"frame {i}"))
        lenses.append(Lens(size, calibration(frame["K_px"], f"frame {i}")))
    return PosedImages.checked(np.array(poses), lenses, cropped=True)
