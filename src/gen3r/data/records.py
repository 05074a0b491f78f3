"""What every dataset becomes: sequences whose frames are read on request, clips in memory, and numbered clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch

from gen3r.cameras.camera import Cameras
from gen3r.geometry.clouds import PointCloud


@dataclass(frozen=True)
class Clip:
    """A posed RGB-D clip in memory.

    frames: uint8 [F, H, W, 3]. depth: float32 [F, H, W], along the camera's z axis, 0 where it is unknown (sky, or
    dynamic objects); all 0 where the dataset has none. cameras: F cameras of the same size as the frames.
    caption: one to three sentences, or nothing. attributes: facts about the clip, as JSON holds them. moving_depth:
    as `depth`, but of the dynamic objects alone; None where it is not known which objects move.
    """

    frames: torch.Tensor
    depth: torch.Tensor
    cameras: Cameras
    caption: str
    attributes: dict[str, Any] | None = None
    moving_depth: torch.Tensor | None = None

    @property
    def moving(self) -> torch.Tensor | None:
        """Where objects move, bool [F, H, W]."""
        return None if self.moving_depth is None else self.moving_depth > 0

    @property
    def full_depth(self) -> torch.Tensor:
        """The depth [F, H, W] of everything, dynamic objects included where they are known."""
        return self.depth if self.moving_depth is None else self.depth + self.moving_depth

    @property
    def images(self) -> torch.Tensor:
        """The frames as models take them: float32 [F, 3, H, W] in [0, 1]."""
        return self.frames.permute(0, 3, 1, 2).float() / 255


def take_frames(clips: Sequence[Clip], index: torch.Tensor) -> dict[str, Any]:
    """The frames of several clips at the places [B, F]: uint8 `frames` [B, F, H, W, 3], `depth` [B, F, H, W],
    `T_world_camera` [B, F, 4, 4], `K_px` [B, F, 3, 3], and all their `captions`.
    """
    pairs = list(zip(clips, index, strict=True))
    return {
        "frames": torch.stack([c.frames[i] for c, i in pairs]),
        "depth": torch.stack([c.depth[i] for c, i in pairs]),
        "T_world_camera": torch.stack([c.cameras.T_world_camera[i] for c, i in pairs]),
        "K_px": torch.stack([c.cameras.K_px[i] for c, i in pairs]),
        "captions": [c.caption for c in clips],
    }


class ClipSource(Protocol):
    """Numbered clips, the same whenever they are asked for: `ClipShards`, `SampledClips` and online synthesis."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        ...

    @property
    def zero_is_sky(self) -> bool:
        """Whether depth is 0 in the sky and nowhere else, as in the procedural world without movers."""
        ...

    def fingerprint(self, numbers: range) -> str:
        """A hash of these clips, without reading them whole."""
        ...

    def at_size(self, height: int, width: int) -> Self:
        """The same clips in another size; stored clips keep theirs."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Clip: ...

    def take(self, numbers: Sequence[int], index: torch.Tensor) -> dict[str, Any]:
        """The frames of several clips at the places [B, F], as `take_frames`."""
        ...


@dataclass(frozen=True)
class MixedClips:
    """Several sources in turn: clip n is clip n // k of source n modulo k. A batch comes from one of them."""

    sources: Sequence[ClipSource]

    zero_is_sky = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.sources[0].shape

    def fingerprint(self, numbers: range) -> str:
        """The sources' own."""
        return " ".join(source.fingerprint(numbers) for source in self.sources)

    def at_size(self, height: int, width: int) -> Self:
        """The same clips in another size."""
        return replace(self, sources=[source.at_size(height, width) for source in self.sources])

    def __len__(self) -> int:
        return len(self.sources) * min(len(source) for source in self.sources)

    def __getitem__(self, number: int) -> Clip:
        turn, source = divmod(number, len(self.sources))
        return self.sources[source][turn]

    def take(self, numbers: Sequence[int], index: torch.Tensor) -> dict[str, Any]:
        """As `take_frames`."""
        return take_frames([self[n] for n in numbers], index)


@dataclass(frozen=True)
class ClipRecord:
    """A posed sequence as a dataset holds it. Only its cameras are in memory.

    dataset, scene: its origin; together they name it. cameras: all F of its cameras, OpenCV axes, camera-to-world, in
    pixels of the stored images. read_frame: number -> uint8 [H, W, 3], without lens distortion. read_depth: number
    -> float32 [H, W], z-depth in the cameras' unit, 0 where it is unknown or something moves; None for a dataset
    without depth. metric: the unit is the metre; otherwise it is the dataset's own. captions: any number of them.
    read_points: -> the scene's points, float32 [N, 3], in the frame and unit of its cameras; None where it has none.
    left_out: how many images the camera file names that are missing, or that it names again.
    """

    dataset: str
    scene: str
    cameras: Cameras
    read_frame: Callable[[int], torch.Tensor]
    read_depth: Callable[[int], torch.Tensor] | None = None
    metric: bool = False
    captions: tuple[str, ...] = ()
    read_points: Callable[[], PointCloud] | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.cameras)

    @property
    def name(self) -> str:
        """The dataset and the scene in one word."""
        return f"{self.dataset}/{self.scene}"
