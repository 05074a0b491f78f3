"""What every dataset becomes: a scene whose frames are read when they are asked for, and a clip in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gen3r.cameras.camera import Cameras
from gen3r.geometry.clouds import PointCloud


@dataclass(frozen=True)
class Clip:
    """A posed RGB-D clip in memory.

    frames: uint8 [F, H, W, 3]. depth: float32 [F, H, W], along the camera's z axis, 0 where it is unknown (sky, or
    things that move); all 0 where the dataset has none. cameras: F cameras of the same size as the frames.
    caption: one sentence, or nothing.
    """

    frames: torch.Tensor
    depth: torch.Tensor
    cameras: Cameras
    caption: str

    @property
    def images(self) -> torch.Tensor:
        """The frames as models take them: float32 [F, 3, H, W] in [0, 1]."""
        return self.frames.permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class ClipRecord:
    """A posed sequence as a dataset holds it. Nothing but its cameras is in memory.

    dataset, scene: where it comes from; together they name it. cameras: all F of its cameras, OpenCV axes,
    camera-to-world, in pixels of the stored pictures. read_frame: number -> uint8 [H, W, 3], any lens distortion
    undone. read_depth: number -> float32 [H, W], z-depth in the cameras' unit, 0 where unknown or moving; None for a
    dataset without depth. metric: the unit is the metre, else it is the dataset's own. captions: any number of them.
    read_points: -> the scene's points, float32 [N, 3], in the frame and unit of its cameras; None where it has none.
    """

    dataset: str
    scene: str
    cameras: Cameras
    read_frame: Callable[[int], torch.Tensor]
    read_depth: Callable[[int], torch.Tensor] | None = None
    metric: bool = False
    captions: tuple[str, ...] = ()
    read_points: Callable[[], PointCloud] | None = None

    def __len__(self) -> int:
        return len(self.cameras)

    @property
    def name(self) -> str:
        """The dataset and the scene in one word."""
        return f"{self.dataset}/{self.scene}"
