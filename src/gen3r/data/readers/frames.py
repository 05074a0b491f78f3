"""Sources of a record's frames, depth and points: files that are read when a frame is asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from gen3r.cameras.lens import Lens
from gen3r.data.readers.poses import inverse
from gen3r.errors import InputError
from gen3r.geometry.clouds import PointCloud
from gen3r.media.crop import Size
from gen3r.media.images import image_tensor
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import video_frames


@contextmanager
def opened(source: Path | bytes, where: object = None) -> Iterator[Image.Image]:
    """An image file.

    Raises:
        InputError: it is missing, truncated or no image.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{where or source} cannot be read as an image ({error}); download it again") from error


def read_frame(source: Path | bytes, where: object = None) -> torch.Tensor:
    """An image of any mode as uint8 [H, W, 3]; EXIF tags do not turn it, as they do not turn its camera.

    Errors as `opened`.
    """
    with opened(source, where) as image:
        if image.mode == "RGB":
            return torch.from_numpy(np.array(image))
        return (255 * image_tensor(image)).round().to(torch.uint8).permute(1, 2, 0)


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
    """(height, width) of an image file, from its header. Errors as `opened`."""
    with opened(path) as image:
        return image.height, image.width


@dataclass(frozen=True)
class PictureFiles:
    """Frames in image files: number -> uint8 [H, W, 3]."""

    paths: Sequence[Path]

    def __call__(self, number: int) -> torch.Tensor:
        return read_frame(self.paths[number])


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
    """The frames of a video or of image files, and the first one's (height, width)."""
    if not pictures.video:
        return PictureFiles(pictures.files), picture_size(pictures.files[0])
    frames = VideoFrames(pictures.files[0])
    height, width = frames(0).shape[:2]
    return frames, (height, width)
