"""Images as people have them, files or values in Python, as tensors; resizing, cropping and lists of them."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen3r.errors import InputError, no_file, refuse_pointer
from gen3r.media.crop import Size, cover_crop
from gen3r.media.decoding import decode, notes, opened, readable, upright_size
from gen3r.media.order import natural_order

# What a folder's images are called. A file that is named may have any suffix.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff", ".gif",
    ".jp2", ".ppm", ".pgm", ".pnm", ".tga", ".qoi",
)  # fmt: skip
MAX_STORED = 65535  # of a 16-bit image
_JUNK = ("__macosx", "thumbs.db", "desktop.ini", "@eadir")  # of systems; hidden files are junk, too

Array = Tensor | np.ndarray
ImageInput = Array | Image.Image | str | Path
Images = ImageInput | Sequence[ImageInput] | None


def read_image(path: str | Path) -> Tensor:
    """An image file as float32 [3, H, W] in [0, 1]: upright, in sRGB, transparency over white (`decoding.decode`).

    An image with at least 4096 pixels on its short side, or over 24 million, is shrunk by a whole factor.

    Raises:
        InputError: it is missing, empty, damaged, not an image, needs a library that is not installed, or holds over
            179 million pixels.
    """
    path = Path(path)
    check_file(path, "image")
    with opened(path) as image:
        pixels, said = decode(image), notes(image, path.name)
    for note in said:
        warnings.warn(note, stacklevel=2)
    return _unit(pixels)


def _unit(pixels: np.ndarray) -> Tensor:
    """Pixels [H, W, 3], uint8 or float32, as float32 [3, H, W] in [0, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def is_junk(path: Path) -> bool:
    """Whether a file or folder is a system's own, such as `._photo.jpg`, `.thumbnails` or `__MACOSX`."""
    return (path.name.startswith(".") and path.name != "..") or path.name.lower() in _JUNK


def has_junk(path: Path) -> bool:
    """Whether a file below a folder is a system's own, or lies in such a folder; path: from there."""
    return any(is_junk(Path(part)) for part in path.parts)


def check_file(path: Path, kind: str) -> None:
    if not path.is_file():
        raise no_file(kind, path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; export the {kind} again")
    refuse_pointer(path)


def image_tensor(image: ImageInput) -> Tensor:
    """One image as float32 [3, H, W] in [0, 1]: a path, a Pillow image, or an array or tensor [3, H, W] or [H, W, 3].

    Where both fit, an array is [H, W, 3], and a tensor [3, H, W]. Values are uint8, uint16, or floats in [0, 1].

    Raises:
        InputError: it is something else, or its values are not finite or far outside of [0, 1].
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        with readable("the image"):
            return _unit(decode(image))
    if not isinstance(image, Tensor | np.ndarray):
        raise InputError(f"an image is a path, a Pillow image, an array or a tensor, not {_kind(image)}")
    last, white = _channels_last(image), _WHITE.get(str(image.dtype).removeprefix("torch.").lstrip("<>"))
    if white is None:
        raise InputError(f"an image's values are uint8, or floats in [0, 1], not {image.dtype}; convert them")
    if isinstance(image, np.ndarray):  # torch knows one byte order, and no backward steps
        image = torch.from_numpy(np.ascontiguousarray(image, image.dtype.newbyteorder("=")))
    values = (image.movedim(-1, 0) if last else image).detach().float() / white
    low, high = (float(x) for x in values.aminmax())
    if not (low >= -0.01 and high <= 1.01):
        raise InputError(f"an image's values lie in [0, 1] (or are uint8), not between {low:g} and {high:g}")
    return values


_WHITE = {"uint8": 255, "uint16": 65535, "u2": 65535, "float16": 1, "bfloat16": 1, "float32": 1, "float64": 1}
_WHITE |= {"f2": 1, "f4": 1, "f8": 1}  # as numpy calls those of the other byte order


def _kind(value: object) -> str:
    return f"{value!r:.40}" if isinstance(value, int | float) else type(value).__name__


def _channels_last(image: Array) -> bool:
    """Whether an image is [H, W, 3] rather than [3, H, W]."""
    shape = tuple(image.shape)
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or not all(shape):
        raise InputError(f"an image is an array [H, W, 3] or a tensor [3, H, W], not {list(shape)}")
    return shape[2] == 3 and (shape[0] != 3 or isinstance(image, np.ndarray))


def resize_and_crop(images: Tensor, height: int, width: int) -> Tensor:
    """Images [..., 3, H, W] resized to cover `height` x `width` (bicubic), and cropped in the centre."""
    lead, (h, w) = images.shape[:-3], images.shape[-2:]
    if (h, w) == (height, width):
        return images
    scale = cover_crop((h, w), (height, width)).scale
    # A strip of 1 x 100000 pixels must not first become 112 x 11 million: what lies far outside goes before resizing.
    h, w = min(h, math.ceil(2 * height / scale)), min(w, math.ceil(2 * width / scale))
    flat = _centre(images.reshape(-1, *images.shape[-3:]), h, w)
    scale, left, top = cover_crop((h, w), (height, width))
    new = max(height, int(h * scale + 1e-6)), max(width, int(w * scale + 1e-6))
    flat = torch.nn.functional.interpolate(flat, size=new, mode="bicubic", align_corners=False, antialias=True)
    flat = flat.clamp(0, 1)[..., top : top + height, left : left + width]
    return flat.reshape(*lead, 3, height, width)


def _centre(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def image_batch(images: Images, height: int, width: int) -> Tensor:
    """Images as a batch [B, n, 3, height, width] in [0, 1], each resized to cover and cropped in the centre.

    images: none (n = 0); one image, in any form of `image_tensor`; a list of n, each of its own size; an array or
        tensor of n, or of B times n, images.

    Raises:
        InputError: something is not an image.
    """
    if isinstance(images, Tensor | np.ndarray) and images.ndim == 5:
        return torch.cat([image_batch(sample, height, width) for sample in images])
    fitted = [resize_and_crop(image_tensor(image), height, width) for image in image_list(images)]
    return torch.stack(fitted)[None] if fitted else torch.zeros(1, 0, 3, height, width)


def image_list(images: Images) -> list[ImageInput]:
    """The images of one sample in what `image_batch` takes.

    Raises:
        InputError: it is no image and no list of images.
    """
    if images is None:
        return []
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray):
        return [images] if images.ndim < 4 else list(images)
    if isinstance(images, Sequence):
        return list(images)
    raise InputError(f"images are paths, Pillow images, arrays or tensors, one or a list, not {_kind(images)}")


def count_images(images: Images) -> int:
    """The number of images per sample in what `image_batch` takes."""
    if isinstance(images, Tensor | np.ndarray) and images.ndim == 5:
        return images.shape[1]
    return len(image_list(images))


def first_size(images: Images) -> Size:
    """Height and width, as it is shown, of the first image in what `image_batch` takes."""
    nested = isinstance(images, Tensor | np.ndarray) and images.ndim == 5
    image = image_list(images)[0]
    image = image[0] if nested and isinstance(image, Tensor | np.ndarray) else image
    if isinstance(image, str | Path):
        return file_size(Path(image))
    if isinstance(image, Image.Image):
        return upright_size(image)
    if isinstance(image, Tensor | np.ndarray):
        return image.shape[:2] if _channels_last(image) else image.shape[1:]
    raise InputError(f"an image is a path, a Pillow image, an array or a tensor, not {_kind(image)}")


def file_size(path: Path) -> Size:
    """Height and width of an image file as it is shown, from its header. Errors as `read_image`."""
    check_file(path, "image")
    with opened(path) as image:
        return upright_size(image)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Whole images [..., 3, H, W] in [0, 1] resized to `height` x `width` (bicubic), each side by its own factor."""
    if images.shape[-2:] == (height, width):
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    flat = torch.nn.functional.interpolate(flat, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return flat.clamp(0, 1).reshape(*images.shape[:-2], height, width)


def eight_bits(images: Tensor) -> Tensor:
    """Images [F, 3, H, W] in [0, 1] as uint8 [F, H, W, 3]."""
    return (images.permute(0, 2, 3, 1) * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def evenly_spaced(available: int, wanted: int) -> list[int]:
    """`wanted` numbers spread evenly over 0..available-1, both ends included; short clips repeat frames."""
    return [round(x) for x in np.linspace(0, available - 1, wanted)]


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names, numbers by value (frame2 before frame10).

    Raises:
        InputError: it holds none.
    """
    paths = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not is_junk(p) and not p.is_dir()]
    if not paths:
        others = sorted((p.name for p in folder.iterdir() if not is_junk(p)), key=natural_order)
        but = f"; name {' or '.join(others[:3])} itself, if that is meant" if others else ""
        raise InputError(f"{folder} holds no images (.jpg, .png, .heic, .tif, ...){but}")
    return sorted(paths, key=lambda p: natural_order(p.name))


def depth_per_unit(farthest: float) -> float:
    """The stored numbers per unit of depth that make a 16-bit image as fine as its farthest pixel allows."""
    return MAX_STORED / farthest if farthest > 0 else 1.0


def write_depth(depth: np.ndarray, path: Path, per_unit: float) -> None:
    """Writes depth [H, W] as a 16-bit PNG: the depth times `per_unit`, 0 where it is unknown or not positive."""
    stored = np.round(depth.astype(np.float64) * per_unit)
    stored = np.where(depth > 0, stored.clip(1, MAX_STORED), 0).astype(np.uint16)
    Image.fromarray(stored).save(path, compress_level=4)
