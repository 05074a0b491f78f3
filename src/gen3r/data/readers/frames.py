"""Sources of a record's frames, depth and points: files that are read when a frame is asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gen3r.cameras.lens import Lens
from gen3r.data.readers.poses import inverse
from gen3r.errors import InputError
from gen3r.geometry.clouds import PointCloud
from gen3r.media.crop import Size
from gen3r.media.decoding import decode, opened, upright_size
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import video_frames


def read_frame(source: Path | bytes, where: object = None, size: Size | None = None) -> torch.Tensor:
    """An image of any kind as uint8 [H, W, 3], as `decode` shows it, but as large as it is.

    size: of its camera. An image that has this size only when it is turned as its EXIF says is turned; any other is
    left as it is stored, as its camera was calibrated. Errors as `opened`.
    """
    with opened(source, where) as image:
        upright = size is not None and size != (image.height, image.width) and size == upright_size(image)
        pixels = decode(image, upright, shrink=False)
    eight_bits = pixels if pixels.dtype == np.uint8 else (255 * pixels + 0.5).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(eight_bits))


def read_values(path: Path) -> np.ndarray:
    """The stored numbers [H, W] of a grey or indexed image. Errors as `opened`; and the image has several channels."""
    with opened(path) as image:
        values = np.array(image)
    if values.ndim != 2:
        raise InputError(f"{path} holds {values.shape[-1]} channels instead of one; download it again")
    return values


def read_depth_values(path: Path) -> np.ndarray:
    """The stored numbers [H, W] of a depth map. Errors as `read_values`; and they have 8 bits."""
    values = read_values(path)
    if values.dtype.itemsize < 2:
        raise InputError(f"{path} is no depth map: it has 8 bits; download it again")
    return values


def picture_size(path: Path) -> Size:
    """(height, width) of an image file as it is stored, from its header. Errors as `opened`."""
    with opened(path) as image:
        return image.height, image.width


@dataclass(frozen=True)
class PictureFiles:
    """Frames in image files: number -> uint8 [H, W, 3]. size: of the cameras, by which they are turned upright."""

    paths: Sequence[Path]
    size: Size | None = None

    def __call__(self, number: int) -> torch.Tensor:
        return read_frame(self.paths[number], size=self.size)


@dataclass(frozen=True)
class Straightened:
    """Frames [H, W, 3] or depth [H, W] without the distortion of the lenses, of which each has its own.

    Depth takes the nearest pixel's, and is unknown beyond the edge of the image.
    """

    read: Callable[[int], torch.Tensor]
    lenses: Sequence[Lens]

    def __call__(self, number: int) -> torch.Tensor:
        image, lens = self.read(number), self.lenses[number]
        if image.ndim == 3:
            return lens.undistort(image)
        return lens.at((image.shape[0], image.shape[1])).undistort(image[..., None], "nearest")[..., 0]


def straightened(read: Callable[[int], torch.Tensor], lenses: Sequence[Lens] | None) -> Callable[[int], torch.Tensor]:
    """`Straightened`, where there is a lens to be undone."""
    return read if lenses is None else Straightened(read, lenses)


@dataclass(frozen=True)
class DepthFiles:
    """Depth in 16-bit images: number -> float32 [H, W], the stored numbers over `per_unit`.

    per_unit: one for all images, or one each. Depth that is 0 or greater than `limit` is unknown.
    """

    paths: Sequence[Path]
    per_unit: float | Sequence[float]
    limit: float

    def __call__(self, number: int) -> torch.Tensor:
        per_unit = self.per_unit if isinstance(self.per_unit, int | float) else self.per_unit[number]
        return keep_known(read_depth_values(self.paths[number]).astype(np.float32) / per_unit, self.limit)


def keep_known(depth: np.ndarray, limit: float) -> torch.Tensor:
    """Depth with 0 where it is not finite, not positive or greater than `limit`."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0) & (depth <= limit)
    return torch.from_numpy(np.where(known, depth, 0).astype(np.float32))


@dataclass(frozen=True)
class PointFile:
    """Points of a file, in the frame of the record's first camera, as its cameras are.

    read: reads the file's format. T_world_camera: of the first camera, [4, 4], in the file's world.
    """

    read: Callable[[Path], PointCloud]
    path: Path
    T_world_camera: np.ndarray

    def __call__(self) -> PointCloud:
        return self.read(self.path).moved(torch.from_numpy(inverse(self.T_world_camera, self.path)))


@dataclass
class VideoFrames:
    """Frames of a video, decoded in order: number -> uint8 [H, W, 3]. A smaller number starts the video again."""

    path: Path

    def __post_init__(self) -> None:
        self._ahead: Iterator[torch.Tensor] = iter(())
        self._next = 0
        self._last: torch.Tensor | None = None

    def __call__(self, number: int) -> torch.Tensor:
        if self._last is None or number < self._next - 1:
            self._ahead, self._next = video_frames(self.path), 0
        while self._next <= number:
            frame = next(self._ahead, None)
            if frame is None:
                raise InputError(f"{self.path} ends before frame {number}; cut it again")
            self._last, self._next = frame, self._next + 1
        assert self._last is not None
        return self._last

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.path = state["path"]
        self.__post_init__()


def frames_of(pictures: ImageSequence) -> tuple[PictureFiles | VideoFrames, Size]:
    """The frames of a video or of image files, upright, and the first one's (height, width)."""
    if pictures.timeline is None:
        size = pictures.first_size()
        return PictureFiles(pictures.files, size=size), size
    frames = VideoFrames(pictures.files[0])
    height, width = frames(0).shape[:2]
    return frames, (height, width)
