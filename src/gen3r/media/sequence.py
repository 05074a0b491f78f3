"""Images in order that are not read yet: files, a folder, or a video."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.images import check_file, list_images, read_image, resize_and_crop
from gen3r.media.video import VIDEO_SUFFIXES, count_frames, decode_frames


@dataclass(frozen=True)
class ImageSequence:
    """Images in order, not read yet: image files, those of one folder, or the frames of one video.

    files: the image files, or the video alone. count: how many images there are.
    """

    files: tuple[Path, ...]
    count: int
    video: bool = False

    @classmethod
    def open(cls, paths: Iterable[Path]) -> "ImageSequence":
        """What a person named, listed and counted.

        Raises:
            InputError: a file is missing or empty, a folder or video holds no images, or the kinds are mixed.
        """
        paths = list(paths)
        videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES and not p.is_dir()]
        if len(paths) > 1 and (videos or any(p.is_dir() for p in paths)):
            raise InputError("give images, or one video, or one folder of images; not a mixture")
        if videos:
            check_file(videos[0], "video")
            return cls((videos[0],), count_frames(videos[0]), video=True)
        files = list_images(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
        for path in files:
            check_file(path, "image")
        return cls(tuple(files), len(files))

    def first_size(self) -> tuple[int, int]:
        """Height and width of the first image."""
        height, width = next(self._each([0])).shape[-2:]
        return height, width

    def read(self, indices: Sequence[int], height: int, width: int) -> Tensor:
        """The images of these numbers, repeats allowed, each resized to cover `height` x `width` and cropped in the
        centre: float32 [n, 3, height, width] in [0, 1]."""
        wanted = sorted(set(indices))
        fitted = {i: resize_and_crop(image, height, width) for i, image in zip(wanted, self._each(wanted), strict=True)}
        return torch.stack([fitted[i] for i in indices])

    def _each(self, wanted: Sequence[int]) -> Iterator[Tensor]:
        """The images of these ascending numbers, each in its own size; one at a time, to bound memory."""
        return decode_frames(self.files[0], wanted) if self.video else (read_image(self.files[i]) for i in wanted)
