"""Files that people send: what they are is read from their bytes, and their size is bounded before they are decoded."""

import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.decoding import is_heif, register_heif
from gen3r.media.images import read_image
from gen3r.media.video import VIDEO_SUFFIXES, read_size, read_timeline, video_frames

MAX_PHOTO_BYTES, MAX_VIDEO_BYTES = 64 << 20, 256 << 20
THUMBNAIL = 256  # pixels of the longer side
MAX_PIXELS = 64_000_000  # of a photo
MAX_VIDEO_PIXELS, MAX_VIDEO_FRAMES = 4096 * 2304, 20_000
_PHOTO_FORMATS = {
    "PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif", "AVIF": ".avif"
}  # fmt: skip
_HEIF = {"HEIF": ".heic"}
_MPO = {"MPO": ".jpg"}  # a JPEG with a second image, of depth or for the other eye
_AVIF_BRANDS = (b"avif", b"avis")
_VIDEO_MAGIC = {
    re.compile(rb"....(ftyp|moov|mdat|free|wide)", re.DOTALL): ".mp4",  # and MOV
    re.compile(rb"\x1a\x45\xdf\xa3", re.DOTALL): ".mkv",  # and WebM
    re.compile(rb"RIFF....AVI ", re.DOTALL): ".avi",
}


@dataclass(frozen=True)
class Upload:
    """A photo or video that can be read. content: its bytes. suffix: of its kind, not of the name that it came with.
    thumbnail: uint8 [h, w, 3]; of a video's first frame."""

    content: bytes
    suffix: str
    thumbnail: Tensor

    @property
    def is_video(self) -> bool:
        return self.suffix in VIDEO_SUFFIXES


def check_upload(content: bytes) -> Upload:
    """The photo or video in these bytes, whatever it is called.

    Its size in bytes and pixels is checked before it is decoded. Then it is read once, as a job will read it.

    Raises:
        InputError: it is too large, damaged, or of another kind.
    """
    if not content:
        raise InputError("the file is empty; choose another")
    heif = is_heif(content[:12])
    still = heif or content[8:12] in _AVIF_BRANDS  # in the container of an MP4
    video = None if still else next((suffix for magic, suffix in _VIDEO_MAGIC.items() if magic.match(content)), None)
    most = MAX_VIDEO_BYTES if video else MAX_PHOTO_BYTES
    if len(content) > most:
        raise InputError(f"the file has {len(content) >> 20} MB; give one of at most {most >> 20} MB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{video or ''}"
        path.write_bytes(content)
        try:
            if heif:
                register_heif("the file")
            suffix = video or _photo_suffix(path, _HEIF if heif else _PHOTO_FORMATS)
            if video:
                _check_video(path)
            image = next(video_frames(path)) if video else (255 * read_image(path).permute(1, 2, 0)).byte()
        except InputError as error:
            raise InputError(str(error).replace(str(path), "the file")) from error
    return Upload(content, suffix, _thumbnail(image))


def _thumbnail(image: Tensor) -> Tensor:
    """A small copy of an image uint8 [H, W, 3]."""
    small = Image.fromarray(image.numpy())
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return torch.from_numpy(np.array(small))


def _photo_suffix(path: Path, formats: dict[str, str]) -> str:
    """The suffix of a photo's format, by its header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=list(formats)) as image:
                width, height = image.size
                kind = image.format or ""
    except UnidentifiedImageError as error:
        raise InputError("the file is neither a photo nor a video; give a PNG, JPEG, WebP, MP4, MOV or WebM") from error
    except Exception as error:  # whatever a damaged header makes Pillow raise
        raise InputError(f"the file is damaged ({error}); export it again") from error
    if width * height > MAX_PIXELS:
        raise InputError(f"the photo has {width} x {height} pixels; give one of at most {MAX_PIXELS // 10**6} million")
    return {**formats, **_MPO}[kind]


def _check_video(path: Path) -> None:
    frames, (height, width) = read_timeline(path).count, read_size(path)
    if height * width > MAX_VIDEO_PIXELS:
        raise InputError(f"the video has {width} x {height} pixels; give one of at most 4096 x 2304")
    if frames > MAX_VIDEO_FRAMES:
        raise InputError(f"the video has {frames} frames; give one of at most {MAX_VIDEO_FRAMES}")
