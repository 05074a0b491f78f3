"""Gen3R's cameras.json: camera-to-world poses with OpenCV axes, intrinsics in pixels, nothing lost."""

from typing import Any

import torch

from gen3r.cameras.camera import Cameras
from gen3r.errors import InputError

FORMAT = "gen3r-cameras"


def cameras_to_json(cameras: Cameras) -> dict[str, Any]:
    """A JSON object from which `cameras_from_json` reads the same float32 numbers."""
    poses, intrinsics = cameras.T_world_camera.double(), cameras.K_px.double()
    return {
        "format": FORMAT,
        "version": 1,
        "convention": "camera-to-world, OpenCV axes, intrinsics in pixels",
        "height": cameras.height,
        "width": cameras.width,
        "frames": [{"T_world_camera": T.tolist(), "K_px": K.tolist()} for T, K in zip(poses, intrinsics, strict=True)],
    }


def cameras_from_json(data: dict[str, Any]) -> Cameras:
    """The inverse of `cameras_to_json`."""
    try:
        T = torch.tensor([frame["T_world_camera"] for frame in data["frames"]], dtype=torch.float64)
        K = torch.tensor([frame["K_px"] for frame in data["frames"]], dtype=torch.float64)
        height, width = int(data["height"]), int(data["width"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the camera file lacks or misshapes an entry: {error}") from error
    return Cameras(T.float(), K.float(), height, width)
