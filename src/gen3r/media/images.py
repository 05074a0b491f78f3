"""Reading images that people have, whatever their mode, bit depth, orientation or size."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gen3r.errors import InputError
from gen3r.files import natural_order
from gen3r.media.crop import cover_crop

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
ENOUGH_PIXELS = 2048  # on the short side: more than any model here looks at
MAX_STORED = 65535  # of a 16-bit image

ImageInput = Tensor | Image.Image


def read_image(path: str | Path) -> Tensor:
    """An image as float32 [3, H, W] in [0, 1]: upright by its EXIF tag, transparency over white, any mode to RGB.

    An image with more than 4096 pixels on its short side is shrunk by a whole factor, to bound memory.

    Raises:
        InputError: it is missing, empty, truncated, not an image, or holds over 179 million pixels (Pillow's limit).
    """
    path = Path(path)
    check_file(path, "image")
    with _readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # between half the limit and the limit
        with Image.open(path) as image:
            image.draft("RGB", (ENOUGH_PIXELS, ENOUGH_PIXELS))
            factor = min(image.size) // ENOUGH_PIXELS
            return image_tensor(ImageOps.exif_transpose(image.reduce(factor) if factor > 1 else image))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Pillow raises into one line that says what to do."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image that can be read; give a PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has too many pixels to be opened safely; make it smaller than 179 million") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged or unusual ({error}); export it again as PNG or JPEG") from error


def check_file(path: Path, kind: str) -> None:
    if not path.is_file():
        raise InputError(f"no {kind} at {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; export the {kind} again")


def image_tensor(image: ImageInput) -> Tensor:
    """One image, a Pillow image or a tensor [3, H, W], as float32 [3, H, W] in [0, 1].

    Raises:
        InputError: the tensor has another shape, or values that are not finite or far outside of [0, 1].
    """
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise InputError(f"an image is a tensor [3, H, W], not {list(image.shape)}")
    values = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    low, high = (float(x) for x in values.aminmax())
    if not (low >= -0.01 and high <= 1.01):
        raise InputError(f"an image's values lie in [0, 1] (or are uint8), not between {low:g} and {high:g}")
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


def image_batch(images: ImageInput | Sequence[ImageInput] | None, height: int, width: int) -> Tensor:
    """Images as a batch [B, n, 3, height, width] in [0, 1], each resized to cover and cropped in the centre.

    images: none (n = 0); one image; a list of n, each a Pillow image or a tensor [3, H, W] of its own size;
        or a tensor [n, 3, H, W] or [B, n, 3, H, W].

    Raises:
        InputError: something is not an image.
    """
    if images is None:
        return torch.zeros(1, 0, 3, height, width)
    if isinstance(images, Tensor) and images.ndim == 5:
        return torch.cat([image_batch(sample, height, width) for sample in images])
    if isinstance(images, Image.Image) or (isinstance(images, Tensor) and images.ndim == 3):
        images = [images]
    fitted = [resize_and_crop(image_tensor(image), height, width) for image in images]
    return torch.stack(fitted)[None] if fitted else torch.zeros(1, 0, 3, height, width)


def count_images(images: ImageInput | Sequence[ImageInput] | None) -> int:
    """The number of images per sample in what `image_batch` takes."""
    if images is None:
        return 0
    if isinstance(images, Image.Image) or (isinstance(images, Tensor) and images.ndim == 3):
        return 1
    return images.shape[1] if isinstance(images, Tensor) and images.ndim == 5 else len(images)


def first_size(images: ImageInput | Sequence[ImageInput]) -> tuple[int, int]:
    """Height and width of the first image in what `image_batch` takes."""
    while not isinstance(images, (Tensor, Image.Image)):
        images = images[0]
    return (images.shape[-2], images.shape[-1]) if isinstance(images, Tensor) else (images.height, images.width)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Whole images [..., 3, H, W] in [0, 1] resized to `height` x `width` (bicubic), each side by its own factor."""
    if images.shape[-2:] == (height, width):
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    flat = torch.nn.functional.interpolate(flat, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return flat.clamp(0, 1).reshape(*images.shape[:-2], height, width)


def evenly_spaced(available: int, wanted: int) -> list[int]:
    """`wanted` numbers spread evenly over 0..available-1, both ends included; short clips repeat frames."""
    return [round(x) for x in np.linspace(0, available - 1, wanted)]


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names, numbers by value (frame2 before frame10).

    Raises:
        InputError: it holds none.
    """
    paths = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not paths:
        raise InputError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(paths, key=lambda p: natural_order(p.name))


def depth_per_unit(farthest: float) -> float:
    """The stored numbers per unit of depth that make a 16-bit image as fine as its farthest pixel allows."""
    return MAX_STORED / farthest if farthest > 0 else 1.0


def write_depth(depth: np.ndarray, path: Path, per_unit: float) -> None:
    """Writes depth [H, W] as a 16-bit PNG: the depth times `per_unit`, 0 where it is unknown or not positive."""
    stored = np.round(depth.astype(np.float64) * per_unit)
    stored = np.where(depth > 0, stored.clip(1, MAX_STORED), 0).astype(np.uint16)
    Image.fromarray(stored).save(path, compress_level=4)
