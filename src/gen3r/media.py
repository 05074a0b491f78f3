"""Reading pictures and videos that people have, whatever their mode, depth, orientation or size."""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gen3r.errors import InputError

if TYPE_CHECKING:
    from av import VideoFrame

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
ENOUGH_PIXELS = 2048  # on the short side: more than any model here looks at

Picture = Tensor | Image.Image


def read_image(path: str | Path) -> Tensor:
    """A picture as float32 [3, H, W] in [0, 1]: upright by its EXIF tag, transparency over white, any mode to RGB.

    A picture with more than 4096 pixels on its short side is shrunk by a whole factor, to bound memory.

    Raises:
        InputError: it is missing, empty, truncated, no picture, or holds over 179 million pixels (Pillow's limit).
    """
    path = Path(path)
    _check_file(path, "picture")
    with _readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # between half the limit and the limit
        with Image.open(path) as image:
            image.draft("RGB", (ENOUGH_PIXELS, ENOUGH_PIXELS))
            factor = min(image.size) // ENOUGH_PIXELS
            return picture_tensor(ImageOps.exif_transpose(image.reduce(factor) if factor > 1 else image))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Pillow raises into one line that says what to do."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read; give a PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has too many pixels to be opened safely; make it smaller than 179 million") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged or unusual ({error}); export it again as PNG or JPEG") from error


def _check_file(path: Path, kind: str) -> None:
    if not path.is_file():
        raise InputError(f"no {kind} at {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; export the {kind} again")


def picture_tensor(image: Picture) -> Tensor:
    """One picture, a Pillow image or a tensor [3, H, W], as float32 [3, H, W] in [0, 1].

    Raises:
        InputError: the tensor has another shape, or values that are not finite or far outside of [0, 1].
    """
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise InputError(f"a picture is a tensor [3, H, W], not {list(image.shape)}")
    values = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    low, high = (float(x) for x in values.aminmax())
    if not (low >= -0.01 and high <= 1.01):
        raise InputError(f"a picture's values lie in [0, 1] (or are uint8), not between {low:g} and {high:g}")
    return values


def _from_pillow(image: Image.Image) -> Tensor:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(np.asarray(image, np.float32), image.mode)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def _from_deep_grey(values: np.ndarray, mode: str) -> Tensor:
    """Grey of 16 bits or more, which Pillow's own conversion would clip at 255."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max())
    if mode != "F" and top <= 65535:
        top = 65535.0
    grey = torch.from_numpy(values / max(top, 1e-6)).clamp(0, 1)
    return grey.expand(3, -1, -1).clone()


def fit(images: Tensor, height: int, width: int) -> Tensor:
    """Pictures [..., 3, H, W] resized to cover `height` x `width` (bicubic), and cropped in the centre."""
    lead, (h, w) = images.shape[:-3], images.shape[-2:]
    if (h, w) == (height, width):
        return images
    scale = max(height / h, width / w)
    # A strip of 1 x 100000 pixels must not first become 112 x 11 million: what lies far outside goes before resizing.
    keep = min(h, math.ceil(2 * height / scale)), min(w, math.ceil(2 * width / scale))
    flat = _centre(images.reshape(-1, *images.shape[-3:]), *keep)
    new = max(height, int(keep[0] * scale + 1e-6)), max(width, int(keep[1] * scale + 1e-6))
    flat = torch.nn.functional.interpolate(flat, size=new, mode="bicubic", align_corners=False, antialias=True)
    return _centre(flat.clamp(0, 1), height, width).reshape(*lead, 3, height, width)


def _centre(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def picture_batch(images: Picture | Sequence[Picture] | None, height: int, width: int) -> Tensor:
    """Given pictures as a batch [B, n, 3, height, width] in [0, 1], each resized to cover and cropped in the centre.

    images: none (n = 0); one picture; a list of n, each a Pillow image or a tensor [3, H, W] of its own size;
        or a tensor [n, 3, H, W] or [B, n, 3, H, W].

    Raises:
        InputError: something is no picture.
    """
    if images is None:
        return torch.zeros(1, 0, 3, height, width)
    if isinstance(images, Tensor) and images.ndim == 5:
        return torch.cat([picture_batch(sample, height, width) for sample in images])
    if isinstance(images, Image.Image) or (isinstance(images, Tensor) and images.ndim == 3):
        images = [images]
    fitted = [fit(picture_tensor(image), height, width) for image in images]
    return torch.stack(fitted)[None] if fitted else torch.zeros(1, 0, 3, height, width)


def spread(available: int, wanted: int) -> list[int]:
    """`wanted` numbers spread evenly over 0..available-1, both ends included; short clips repeat frames."""
    return [round(x) for x in np.linspace(0, available - 1, wanted)]


def list_images(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names, numbers by value (frame2 before frame10).

    Raises:
        InputError: it holds none.
    """
    paths = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not paths:
        raise InputError(f"{folder} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(paths, key=lambda p: [(int(x), "") if x.isdecimal() else (-1, x) for x in re.split(r"(\d+)", p.name)])


def read_video(path: str | Path, frames: int | None = None) -> Tensor:
    """`frames` pictures spread evenly over a video (None: all), upright, float32 [F, 3, H, W] in [0, 1].

    Raises:
        InputError: it is missing, damaged, or holds no picture.
    """
    path = Path(path)
    _check_file(path, "video")
    count = _count_frames(path)
    wanted = list(range(count)) if frames is None else spread(count, frames)
    found = dict(zip(sorted(set(wanted)), _decode(path, sorted(set(wanted))), strict=True))
    return torch.stack([found[i] for i in wanted])


@dataclass(frozen=True)
class Pictures:
    """Pictures in order, not read yet: picture files, those of one folder, or the frames of one video.

    files: the picture files, or the video alone. count: how many pictures there are.
    """

    files: tuple[Path, ...]
    count: int
    video: bool = False

    @classmethod
    def open(cls, paths: Iterable[Path]) -> "Pictures":
        """What a person named, listed and counted.

        Raises:
            InputError: a file is missing or empty, a folder or video holds no pictures, or the kinds are mixed.
        """
        paths = list(paths)
        videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES and not p.is_dir()]
        if len(paths) > 1 and (videos or any(p.is_dir() for p in paths)):
            raise InputError("give pictures, or one video, or one folder of pictures; not a mixture")
        if videos:
            _check_file(videos[0], "video")
            return cls((videos[0],), _count_frames(videos[0]), video=True)
        files = list_images(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
        for path in files:
            _check_file(path, "picture")
        return cls(tuple(files), len(files))

    def read(self, indices: Sequence[int], height: int, width: int) -> Tensor:
        """The pictures of these numbers, repeats allowed, each resized to cover `height` x `width` and cropped in the
        centre: float32 [n, 3, height, width] in [0, 1]."""
        wanted = sorted(set(indices))
        fitted = {i: fit(image, height, width) for i, image in zip(wanted, self._each(wanted), strict=True)}
        return torch.stack([fitted[i] for i in indices])

    def _each(self, wanted: Sequence[int]) -> Iterator[Tensor]:
        """The pictures of these ascending numbers one at a time, in their own size: a clip of large ones never lies
        in memory whole."""
        return _decode(self.files[0], wanted) if self.video else (read_image(self.files[i]) for i in wanted)


@contextmanager
def _video(path: Path) -> Iterator[Any]:
    """An open video, with what FFmpeg raises turned into one line."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no pictures; give a video")
            container.streams.video[0].thread_type = "AUTO"
            yield container
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path} cannot be read as a video ({error}); convert it to MP4") from error


def _count_frames(path: Path) -> int:
    """The frames of a video, by its packets, without decoding them."""
    with _video(path) as container:
        count = sum(packet.size > 0 for packet in container.demux(video=0))
    if not count:
        raise InputError(f"{path} holds no pictures; give another video")
    return count


def _decode(path: Path, wanted: Sequence[int]) -> Iterator[Tensor]:
    """The frames of these ascending numbers; where a stream ends early, its last frame stands for the rest."""
    left, last = list(wanted), None
    with _video(path) as container:
        for i, frame in enumerate(container.decode(video=0)):
            last = frame
            if i == left[0]:
                yield _frame_tensor(frame)
                left.pop(0)
            if not left:
                return
    if last is None:
        raise InputError(f"{path} holds no pictures; give another video")
    for _ in left:
        yield _frame_tensor(last)


def video_frames(path: Path) -> Iterator[Tensor]:
    """All frames of a video, one at a time: uint8 [H, W, 3].

    Raises:
        InputError: it is missing or damaged.
    """
    _check_file(path, "video")
    with _video(path) as container:
        for frame in container.decode(video=0):
            yield torch.from_numpy(_frame_pixels(frame))


def _frame_tensor(frame: "VideoFrame") -> Tensor:
    return torch.from_numpy(_frame_pixels(frame)).permute(2, 0, 1).float() / 255


def _frame_pixels(frame: "VideoFrame") -> np.ndarray:
    """A decoded frame, turned as its recording says (telephones film upright pictures lying down)."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4).copy()
