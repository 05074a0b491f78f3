"""One record for every clip, wherever it comes from."""

from dataclasses import dataclass

import torch

from gen3r.cameras.camera import Cameras


@dataclass(frozen=True)
class ClipRecord:
    """A posed RGB-D clip.

    frames: uint8 [F, H, W, 3]. depth: float32 [F, H, W], along the camera's z axis, 0 where it is unknown
    (sky). cameras: F cameras of the same size as the frames. caption: one sentence.
    """

    frames: torch.Tensor
    depth: torch.Tensor
    cameras: Cameras
    caption: str
