"""Decoding images as they are shown: upright, in sRGB, over white, whatever their format, mode or bit depth."""

import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from struct import unpack_from
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from gen3r.errors import InputError
from gen3r.media.colour import ADOBE_RGB, from_primaries, to_srgb
from gen3r.media.crop import Size

ENOUGH_PIXELS = 2048  # on the short side: more than any model here looks at
MOST_PIXELS = 24_000_000  # of long panoramas
PANORAMA = "{} is a panorama of all directions, and is taken for the view of one lens; cut such a view out of it"
ANIMATION = "{} is an animation, of which the first frame is read; convert it to a video to have all"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Files of cameras; most are TIFFs whose first image is a thumbnail.
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
_EXTERNAL = ("EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5")  # formats that Pillow gives to other programs, or knows only
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")  # formats whose further images are those of a film
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # grey of more than 8 bits
_HEAD = 1 << 16  # bytes in which a file tells its colours
FILM_DIAGONAL = 43.27  # mm, of the 35 mm film that EXIF compares lenses with
MOST_LENS_ASPECT = 2.4  # a longer image is a panorama, whatever lens its EXIF names
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT, _DNG_VERSION = 262, 258, 339, 50706  # tags of TIFF


class Turn(NamedTuple):
    """How stored pixels become upright: exchange rows and columns, then mirror left-right and top-bottom."""

    transposed: bool
    mirrored: bool
    flipped: bool

    def size(self, height: int, width: int) -> Size:
        return (width, height) if self.transposed else (height, width)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels [H, W, C] upright, as a view."""
        pixels = pixels.swapaxes(0, 1) if self.transposed else pixels
        return pixels[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]


_TURNS = {  # by EXIF orientation
    1: Turn(False, False, False), 2: Turn(False, True, False), 3: Turn(False, True, True), 4: Turn(False, False, True),
    5: Turn(True, False, False), 6: Turn(True, True, False), 7: Turn(True, True, True), 8: Turn(True, False, True),
}  # fmt: skip


@contextmanager
def opened(source: Path | bytes, where: object = None) -> Iterator[Image.Image]:
    """An image file, of which the header is read. where: what to call it in errors, if not by its path.

    Raises:
        InputError: it is no image, is damaged, needs a library that is not installed, or holds over 179 million pixels
            (Pillow's limit); also where the block decodes it.
    """
    where = where or source
    with readable(where), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about what it tolerates
        file = BytesIO(source) if isinstance(source, bytes) else source
        raw = isinstance(source, Path) and source.suffix.lower() in RAW_SUFFIXES
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            if raw:
                raise _raw_file(where) from None
            if not is_heif(source[:12] if isinstance(source, bytes) else _head(source)):
                raise
            register_heif(where)
            image = Image.open(file)
        with image:
            if raw or _DNG_VERSION in getattr(image, "tag_v2", ()):
                raise _raw_file(where)
            if image.format in _EXTERNAL:
                raise UnidentifiedImageError
            yield image


@contextmanager
def readable(where: object) -> Iterator[None]:
    """Turns whatever a decoder raises into one line that says what to do."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{where} is not an image that can be read; give a PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{where} has too many pixels to be opened safely; make it smaller than 179 million"
        ) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"no image at {where}") from error
    except PermissionError as error:
        raise InputError(f"{where} may not be read; change its permissions") from error
    except Exception as error:  # decoders raise nearly every kind
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{where} is damaged or unusual ({reason}); export it again as PNG or JPEG") from error


def _raw_file(where: object) -> InputError:
    return InputError(f"{where} is a camera's raw file; export it as JPEG or 16-bit PNG")


def is_heif(head: bytes) -> bool:
    """Whether a file is a HEIC, or of the formats with the same container, by its first 12 bytes."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def register_heif(where: object) -> None:
    """Lets Pillow read HEIC.

    Raises:
        InputError: the library for it is not installed.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise InputError(f"{where} is a HEIC; install gen3r[heic] to read it, or export it as JPEG") from error
    register_heif_opener()


def notes(image: Image.Image, where: object) -> list[str]:
    """What is lost of an image, or is not taken for what it is: the bent lines of a panorama of all directions, by its
    XMP, and the further frames of an animation."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    bent = b"equirectangular" in (xmp.encode() if isinstance(xmp, str) else xmp)
    moving = image.format in _ANIMATED and _is_animated(image)
    return [note.format(where) for note, true in ((PANORAMA, bent), (ANIMATION, moving)) if true]


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # its further frames are damaged
        return False


def upright_size(image: Image.Image) -> Size:
    """(height, width) of an image as it is shown, without decoding it."""
    return image_turn(image).size(image.height, image.width)


def image_turn(image: Image.Image) -> Turn:
    """How its EXIF says it is to be turned; Pillow turns TIFFs itself."""
    if image.format == "TIFF":
        return _TURNS[1]
    return _TURNS.get(_exif_value(image, ExifTags.Base.Orientation), _TURNS[1])


def focal_length(image: Image.Image) -> float | None:
    """In the pixels of an image as it is stored, by the focal length for 35 mm film in its EXIF; None where that says
    nothing, where the image was cut to another shape than the EXIF says, and for panoramas."""
    on_film = _exif_value(image, ExifTags.Base.FocalLengthIn35mmFilm, ExifTags.IFD.Exif)
    tags = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
    taken = [_exif_value(image, tag, ExifTags.IFD.Exif) for tag in tags]
    short, long = sorted(image.size)
    if not isinstance(on_film, int) or on_film <= 0 or long > MOST_LENS_ASPECT * short:
        return None
    if all(isinstance(x, int) and x > 0 for x in taken) and abs(max(taken) / min(taken) * short / long - 1) > 0.02:
        return None
    return on_film / FILM_DIAGONAL * math.hypot(*image.size)


def _exif_value(image: Image.Image, tag: int, group: int | None = None) -> Any:
    """A value of the EXIF, or None; cameras and editors write tags of every type, so errors mean that there is none."""
    try:
        exif = image.getexif()
        value = (exif if group is None else exif.get_ifd(group)).get(tag)
    except Exception:
        return None
    return value if isinstance(value, int | str) else None


def decode(image: Image.Image, upright: bool = True, shrink: bool = True) -> np.ndarray:
    """The pixels [H, W, 3] in sRGB: uint8, or float32 in [0, 1] where the image has more than 8 bits.

    shrink: an image with at least 4096 pixels on its short side, or over 24 million, is shrunk by a whole factor.

    Grey of 16 bits is white at 65535, floats at 1; what lies above is clipped, what is not finite is black. A colour
    profile, else the colours that the header names, lead to sRGB; a profile that cannot be used is left out.
    Transparency lies over white; where all is clear, it is left out. upright: turned as its EXIF says.

    Raises:
        InputError: most of its numbers lie above white.
    """
    head = _head_of(image)
    coding, profile = _named_colours(image, head), image.info.get("icc_profile") or _jpeg2000_profile(head)
    if shrink:
        image.draft("RGB", (ENOUGH_PIXELS, ENOUGH_PIXELS))
    image.load()
    factor = shrink_factor(image.height, image.width) if shrink else 1
    turn = image_turn(image)
    adobe = not profile and _exif_value(image, 1, ExifTags.IFD.Interop) == "R03"  # DCF's way to say Adobe RGB
    gamma = image.info.get("gamma") if "srgb" not in image.info and not profile and coding is None else None
    pixels = (_deep_grey if image.mode in _DEEP else _eight_bits)(image, factor, None if coding else profile)
    if coding is not None:
        pixels = convert_rows(pixels, lambda x: to_srgb(x, *coding))
    elif adobe:
        pixels = convert_rows(pixels, lambda x: from_primaries(x, ADOBE_RGB, lambda s: s ** (563 / 256)))
    elif gamma and abs(gamma * 2.2 - 1) > 0.05:  # of a PNG
        pixels = convert_rows(pixels, lambda x: x ** (1 / (2.2 * gamma)))
    return turn.apply(pixels) if upright else pixels


def convert_rows(pixels: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """float32 [H, W, 3] of pixels [H, W, 3] whose full range `convert` sees as [0, 1]; some rows at a time, because it
    needs several times their memory."""
    result = np.empty(pixels.shape, np.float32)
    full = np.float32(np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1)
    for i in range(0, len(pixels), 64):
        result[i : i + 64] = convert(pixels[i : i + 64] / full)
    return result


def _head_of(image: Image.Image) -> bytes:
    """The first bytes of the file of an image, where it has one whose header may tell colours."""
    file = getattr(image, "fp", None)
    if image.format not in ("AVIF", "HEIF", "PNG", "JPEG2000") or file is None:
        return b""
    place = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(place)
    return head


def _jpeg2000_profile(head: bytes) -> bytes | None:
    """The profile in the colour box of a JPEG 2000, which Pillow does not read."""
    box = re.search(rb"jp2h.*?(....)colr[\2\3]", head, re.DOTALL)
    return head[box.end() + 2 : box.start(1) + int.from_bytes(box[1], "big")] if box else None


def _named_colours(image: Image.Image, head: bytes) -> tuple[int, int] | None:
    """The primaries and transfer function (H.273) that the header of an AVIF, HEIC or PNG names, None for sRGB's.

    A colour profile takes precedence, but not over a PNG's.
    """
    if image.format != "PNG" and image.info.get("icc_profile"):
        return None
    mark, kind = (b"cICP", ">BB") if image.format == "PNG" else (b"colrnclx", ">HH")
    at = head.find(mark) + len(mark)
    if at < len(mark) or at + 4 > len(head):
        return None
    primaries, transfer = unpack_from(kind, head, at)
    return primaries, transfer


def shrink_factor(height: int, width: int) -> int:
    """By which whole factor an image of this size is shrunk, to bound memory."""
    factor = max(1, min(height, width) // ENOUGH_PIXELS)
    while height * width > MOST_PIXELS * factor**2:
        factor += 1
    return factor


def _eight_bits(image: Image.Image, factor: int, profile: bytes | None) -> np.ndarray:
    """uint8 [H, W, 3] of an image with 8 bits a channel or fewer."""
    clear = image.has_transparency_data
    if image.mode == "La":
        image = image.convert("LA")
    if (clear and image.mode != "LA") or image.mode == "PA":
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "LA", "CMYK", "LAB"):
        image = image.convert("RGB")
    image = image.reduce(factor) if factor > 1 else image
    alpha = image.getchannel("A") if clear else None
    if alpha is not None and alpha.getextrema() == (0, 0):
        alpha = None  # never set, as in many BMP and TGA
    image = image.convert(image.mode.removesuffix("A")) if clear else image
    transform = _colour_transform(profile, image.mode) if profile else None
    image = transform.apply(image) if transform is not None else image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image)


@lru_cache(16)
def _colour_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From an ICC profile to sRGB; None where it is damaged, or is not one of images of this mode."""
    try:
        source: Any = ImageCms.ImageCmsProfile(BytesIO(profile))
        if {"GRAY": "L", "Lab": "LAB"}.get(space := source.profile.xcolor_space.strip(), space) != mode:
            return None
        intent = ImageCms.Intent(source.profile.rendering_intent)
        if intent == ImageCms.Intent.ABSOLUTE_COLORIMETRIC:
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _deep_grey(image: Image.Image, factor: int, profile: bytes | None) -> np.ndarray:
    """float32 [H, W, 3] of grey with more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    bits, signed = (tags.get(tag, (default,))[0] for tag, default in ((_BITS, 16), (_SAMPLE_FORMAT, 1)))
    white = 1.0 if image.mode == "F" else 2.0 ** (bits - (signed == 2)) - 1
    inverted, clear = tags.get(_PHOTOMETRIC) == 0, image.info.get("transparency")
    image = image if factor == 1 else image.convert("F" if image.mode == "F" else "I").reduce(factor)
    values = np.array(image)
    if bits == 32 and signed == 1 and values.dtype == np.int32:
        values = values.view(np.uint32)
    holes = values == clear if isinstance(clear, int) else None
    values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0) / np.float32(white)
    if (values > 1).mean() > 0.5:
        raise InputError(f"{values.max() * white:g} is more than its white, {white:g}; scale it and export it again")
    values = 1 - values if inverted else values
    if profile and (transform := _colour_transform(profile, "L")) is not None:
        levels = np.arange(256, dtype=np.uint8)
        curve = np.array(transform.apply(Image.fromarray(levels[None])))[0, :, 0]
        values = np.interp(values, levels / 255, curve / 255).astype(np.float32)
    if holes is not None:
        values[holes] = 1
    return values.clip(0, 1)[..., None].repeat(3, -1)
