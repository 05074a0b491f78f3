"""The camera file of the published Gen3R: world-to-camera poses, and intrinsics in pixels of 560 x 560."""

from typing import Any

import numpy as np

from gen3r.cameras.camera import inverted_poses
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.formats.values import calibration, matrix
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError
from gen3r.media.crop import Size

SIZE: Size = (560, 560)  # to whose short side images are resized, and to which they are cropped in the centre


def parse_published(data: dict[str, Any]) -> PosedImages:
    """The cameras of `extrinsics` and `intrinsics`, a list of matrices each, or one matrix of intrinsics for all.

    Raises:
        InputError: an entry is misstated, or their counts differ.
    """
    extrinsics, intrinsics = data["extrinsics"], data["intrinsics"]
    if not (isinstance(extrinsics, list) and isinstance(intrinsics, list) and extrinsics and intrinsics):
        raise InputError("its extrinsics and intrinsics are not lists of matrices; export the cameras again")
    T_camera_world = np.array([matrix(value, f"extrinsics {i}") for i, value in enumerate(extrinsics)])
    if not isinstance(intrinsics[0], list) or not isinstance(intrinsics[0][0] if intrinsics[0] else None, list):
        intrinsics = [intrinsics] * len(extrinsics)
    if len(intrinsics) != len(extrinsics):
        raise InputError(f"it has {len(extrinsics)} extrinsics and {len(intrinsics)} intrinsics; give one each")
    lenses = [Lens(SIZE, calibration(K, f"intrinsics {i}")) for i, K in enumerate(intrinsics)]
    return PosedImages.checked(inverted_poses(T_camera_world), lenses, cropped=True)
