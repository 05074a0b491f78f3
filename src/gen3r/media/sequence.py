"""Images in order that are not read yet: files, a folder, or a video."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.crop import Size, cover_crop
from gen3r.media.decoding import RAW_SUFFIXES, focal_length, opened, upright_size
from gen3r.media.images import (
    IMAGE_SUFFIXES,
    check_file,
    evenly_spaced,
    file_size,
    image_list,
    is_junk,
    list_images,
    read_image,
    resize_and_crop,
)
from gen3r.media.video import VIDEO_SUFFIXES, Timeline, is_video, read_timeline, sample_frames, video_frames


@dataclass(frozen=True)
class ImageSequence:
    """Images in order, not read yet: image files, those of one folder, or the frames of one video.

    files: the image files, or the video alone. named: they were named one by one, so that all are meant.
    timeline: of the video.
    """

    files: tuple[Path, ...]
    named: bool = False
    timeline: Timeline | None = None

    @classmethod
    def open(cls, paths: Iterable[str | Path]) -> "ImageSequence":
        """What a person named, listed and counted. Among several files, those of systems (`is_junk`) are left out.

        Raises:
            InputError: a file is missing or empty, a folder or video holds no images, or the kinds are mixed.
        """
        paths = [Path(p) for p in paths]
        paths = [p for p in paths if not is_junk(p)] if len(paths) > 1 else paths
        videos = [p for p in paths if not p.is_dir() and _is_video(p)]
        if len(paths) > 1 and (videos or any(p.is_dir() for p in paths)):
            raise InputError("give images, or one video, or one folder of images; not a mixture")
        if videos:
            check_file(videos[0], "video")
            return cls((videos[0],), timeline=read_timeline(videos[0]))
        files = _pictures(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
        for path in files:
            check_file(path, "image")
        return cls(tuple(files), named=len(paths) > 1)

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.files) if self.timeline is None else self.timeline.count

    def meant(self, usual: int, wanted: int | None = None) -> int:
        """How many images to look at: those `wanted`, else all that were named, else the usual number; at most all."""
        if wanted is not None:
            return min(self.count, wanted)
        return self.count if self.named else min(self.count, usual)

    def first_size(self) -> Size:
        """Height and width of the first image as it is shown."""
        if self.timeline is None:
            return file_size(self.files[0])
        height, width = next(video_frames(self.files[0])).shape[:2]
        return height, width

    def read(self, indices: Sequence[int], height: int, width: int) -> Tensor:
        """The images of these numbers, in this order, repeats allowed, each resized to cover `height` x `width` and
        cropped in the centre: float32 [n, 3, height, width] in [0, 1].

        Raises:
            InputError: one of them cannot be read, or a video ends before it.
        """
        wanted = set(indices)
        if self.timeline is None:
            images = {i: resize_and_crop(read_image(self.files[i]), height, width) for i in wanted}
        else:
            shown = enumerate(islice(video_frames(self.files[0]), max(wanted, default=-1) + 1))
            images = {i: _fitted(frame, height, width) for i, frame in shown if i in wanted}
        if missing := wanted - images.keys():
            raise InputError(f"{self.files[0]} ends before frame {min(missing)}; cut it again")
        return torch.stack([images[i] for i in indices])

    def sample(self, wanted: int, height: int, width: int) -> Tensor:
        """`wanted` images, evenly spaced (those of a video by time), repeats where there are fewer, each resized to
        cover `height` x `width` and cropped in the centre: float32 [n, 3, height, width] in [0, 1]."""
        return torch.stack([*self.stream(wanted, height, width)])

    def stream(self, wanted: int, height: int, width: int) -> Iterator[Tensor]:
        """The images of `sample`, read one by one as they are asked for: float32 [3, height, width] in [0, 1]."""
        if self.timeline is not None:
            for frame in sample_frames(self.files[0], self.timeline, wanted):
                yield _fitted(frame, height, width)
            return
        for file in (self.files[i] for i in evenly_spaced(self.count, wanted)):
            yield resize_and_crop(read_image(file), height, width)


def _fitted(frame: Tensor, height: int, width: int) -> Tensor:
    """A frame uint8 [H, W, 3] as float32 [3, height, width]."""
    return resize_and_crop(frame.permute(2, 0, 1).float() / 255, height, width)


def _pictures(folder: Path) -> list[Path]:
    """The images of a folder, of each name one: others are depth or a mask beside it, or the same in another format."""
    first: dict[str, Path] = {}
    if left := [path for path in list_images(folder) if first.setdefault(path.stem, path) != path]:
        one, kept = left[0].name, first[left[0].stem].name
        warnings.warn(f"{len(left)} images left out: {one}, for one, has the name of {kept}", stacklevel=4)
    return [*first.values()]


def _is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix where that tells, else by its content."""
    if path.suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, *RAW_SUFFIXES):
        return path.suffix.lower() in VIDEO_SUFFIXES
    check_file(path, "image or video")
    try:
        with opened(path):
            return False
    except InputError as error:
        if not is_video(path):
            raise error
        return True


def open_paths(images: Any) -> Any:
    """Paths as an `ImageSequence`: of one image, video or folder, or a list of images. Anything else as it is.

    Raises:
        InputError: as `ImageSequence.open`.
    """
    if isinstance(images, str | Path):
        if not Path(images).exists() and not str(images).startswith("http"):
            raise InputError(f"no file or folder at {images}; text goes into the prompt")
        return ImageSequence.open([images])
    if isinstance(images, list | tuple) and images and all(isinstance(x, str | Path) for x in images):
        return ImageSequence.open(images)
    return images


def exif_fov(images: Any, height: int, width: int) -> float | None:
    """The horizontal angle of view [degrees] that the EXIF of the first image says, as images of `height` x `width`
    show it after they were resized to cover and cropped; None where it does not say.

    images: an `ImageSequence`, or images in any form of `image_batch`.
    """
    if isinstance(images, ImageSequence):
        first = images.files[0] if images.timeline is None else None
    else:
        first = next(iter(image_list(images)), None)
    if isinstance(first, str | Path):
        with opened(Path(first)) as image:
            focal, size = focal_length(image), upright_size(image)
    elif isinstance(first, Image.Image):
        focal, size = focal_length(first), upright_size(first)
    else:
        return None
    if focal is None:
        return None
    scale = cover_crop(size, (height, width)).scale
    return math.degrees(2 * math.atan(width / 2 / (focal * scale)))
