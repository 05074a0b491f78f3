"""Reading pictures and videos that people have, whatever their mode, depth, orientation or size."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gen3r.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
MAX_PIXELS = 200_000_000


def read_image(path: str | Path) -> Tensor:
    """A picture as float32 [3, H, W] in [0, 1]: upright by its EXIF tag, transparency over white, any mode to RGB.

    Raises:
        InputError: it is missing, empty, truncated, no picture, or has over 200 million pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no picture at {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; export the picture again")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the size is checked below, with a clear message
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path} has {image.width} x {image.height} pixels; make it smaller than 200 million")
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read; give a PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}); export the picture again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image) -> Tensor:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float32)
        top = 65535.0 if image.mode != "F" else max(float(np.nanmax(values)), 1e-6)
        grey = torch.from_numpy(np.nan_to_num(values) / top).clamp(0, 1)
        return grey.expand(3, -1, -1).clone()
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def read_video(path: str | Path, frames: int | None = None) -> Tensor:
    """`frames` pictures spread evenly over a video (None: all), float32 [F, 3, H, W] in [0, 1].

    Raises:
        InputError: it is missing, damaged, or holds no picture.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no video at {path}")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no pictures; give a video")
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path} cannot be read as a video ({error}); convert it to MP4") from error
    if not images:
        raise InputError(f"{path} holds no pictures; give another video")
    kept = images if frames is None else [images[i] for i in spread(len(images), frames)]
    return torch.from_numpy(np.stack(kept)).permute(0, 3, 1, 2).float() / 255


def spread(available: int, wanted: int) -> list[int]:
    """`wanted` numbers spread evenly over 0..available-1, both ends included; short clips repeat frames."""
    return [round(x) for x in np.linspace(0, available - 1, wanted)]


def list_images(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names.

    Raises:
        InputError: it holds none.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise InputError(f"{folder} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    return paths


def fit(images: Tensor, height: int, width: int) -> Tensor:
    """Pictures [..., 3, H, W] resized to cover `height` x `width`, and cropped in the centre."""
    lead, (h, w) = images.shape[:-3], images.shape[-2:]
    scale = max(height / h, width / w)
    new = max(height, int(h * scale + 1e-6)), max(width, int(w * scale + 1e-6))
    flat = images.reshape(-1, *images.shape[-3:])
    flat = torch.nn.functional.interpolate(flat, size=new, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    top, left = (new[0] - height) // 2, (new[1] - width) // 2
    return flat[..., top : top + height, left : left + width].reshape(*lead, 3, height, width)


def read_frames(paths: Iterable[Path], height: int, width: int, frames: int | None) -> Tensor:
    """The pictures of files, a folder or a video, fitted to one size: [n, 3, height, width].

    A video or a folder gives `frames` pictures spread evenly (None: all); single files are taken as they are.
    """
    paths = list(paths)
    if len(paths) == 1 and paths[0].suffix.lower() in VIDEO_SUFFIXES:
        return fit(read_video(paths[0], frames), height, width)
    if len(paths) == 1 and paths[0].is_dir():
        found = list_images(paths[0])
        paths = found if frames is None else [found[i] for i in spread(len(found), frames)]
    return torch.stack([fit(read_image(p), height, width) for p in paths])
