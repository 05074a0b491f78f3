"""Uploads: what is no photo and no video is refused in one line, before it costs anything."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.app import uploads
from gen3r.app.uploads import check_upload
from gen3r.errors import InputError
from gen3r.export.video import write_video

from .conftest import photo_bytes


def video_bytes(folder: Path, suffix: str = ".mp4", frames: int = 5) -> bytes:
    path = folder / f"clip{suffix}"
    write_video(torch.randint(0, 255, (frames, 96, 96, 3), dtype=torch.uint8), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("BMP", ".bmp"), ("TIFF", ".tif")]
)
def test_photos_are_known_by_their_bytes(kind: str, suffix: str) -> None:
    upload = check_upload(photo_bytes(kind=kind))
    assert (upload.suffix, upload.is_video) == (suffix, False)


def test_photos_of_telephones(tmp_path: Path) -> None:
    """A HEIC and an AVIF, whose container is that of an MP4, and a JPEG with a second image of depth."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    image, exif = Image.new("RGB", (96, 64), (200, 30, 30)), Image.Exif()
    exif[0x0112] = 6
    for suffix, kind, more in ((".heic", "HEIF", {}), (".avif", "AVIF", {}), (".jpg", "MPO", {"save_all": True})):
        file = io.BytesIO()
        image.save(file, kind, exif=exif.tobytes(), **more, **({"append_images": [image]} if more else {}))
        upload = check_upload(file.getvalue())
        assert (upload.suffix, upload.is_video, upload.thumbnail.shape) == (suffix, False, (96, 64, 3))


def test_videos_are_known_by_their_bytes(tmp_path: Path) -> None:
    upload = check_upload(video_bytes(tmp_path))
    assert (upload.suffix, upload.is_video) == (".mp4", True)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int) -> bytes:
    """A small file that claims many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def hostile(folder: Path) -> Iterator[bytes]:
    """A hundred files that are damaged, lie about what they are, or attack what reads them."""
    numbers = np.random.default_rng(0)
    whole = [photo_bytes(kind=kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")]
    whole.append(video_bytes(folder))
    for data in whole:  # 70: cut, and with bytes changed
        for share in (0.001, 0.01, 0.1, 0.5, 0.9):
            yield data[: max(4, int(share * len(data)))]
        for count in (1, 10, 100, 1000, len(data) - 16):
            changed = bytearray(data)
            for i in numbers.integers(12, len(data), count):
                changed[i] = numbers.integers(256)
            yield bytes(changed)
    for size in [(0, 0), (0, 9), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (60_000, 60_000), (9000, 9000), (20, 10**6)]:
        yield huge_png(*size)
    mp4, avi = b"\x00\x00\x00\x18ftypmp42", b"RIFF\x00\x00\x00\x00AVI "
    magics = [mp4, avi, b"\x1a\x45\xdf\xa3", b"\xff\xd8\xff\xe0", b"GIF89a"]
    for magic in magics:
        yield magic
        yield magic + numbers.bytes(5000)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../../etc/cron.d/x", "x")
    yield archive.getvalue()
    yield pickle.dumps({"a": 1})
    yield b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    yield b"ffconcat version 1.0\nfile /etc/passwd\n"
    yield b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield b"%!PS\n(%pipe%id) (r) file\n"
    yield b"%PDF-1.7\n"
    yield b"<html><script>alert(1)</script></html>"
    yield b"{}"
    yield b"\x7fELF" + bytes(200)
    yield bytes(100_000)
    yield b"a"
    yield b"P6\n99999 99999\n255\n"


@pytest.mark.filterwarnings("ignore")  # Pillow's, about damaged metadata
def test_a_hundred_hostile_files(tmp_path: Path) -> None:
    count, refusals = 0, []
    before = sorted(tmp_path.rglob("*"))
    for data in hostile(tmp_path):
        count += 1
        try:
            check_upload(data)  # changed pixels alone make no damage
        except InputError as error:
            refusals.append(str(error))
    assert count == 100
    assert len(refusals) > 60
    assert not [text for text in refusals if "/tmp" in text or "\n" in text]
    assert len(sorted(tmp_path.rglob("*"))) == len(before) + 1  # the clip that the files are made from


def test_sizes_are_bounded_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="9000 x 9000 pixels"):
        check_upload(huge_png(9000, 9000))
    with pytest.raises(InputError, match="the file is empty"):
        check_upload(b"")
    monkeypatch.setattr(uploads, "MAX_PHOTO_BYTES", 1000)
    with pytest.raises(InputError, match="give one of at most 0 MB"):
        check_upload(photo_bytes())
    clip = video_bytes(tmp_path)
    monkeypatch.setattr(uploads, "MAX_VIDEO_FRAMES", 4)
    with pytest.raises(InputError, match="5 frames"):
        check_upload(clip)
    monkeypatch.setattr(uploads, "MAX_VIDEO_PIXELS", 96 * 95)
    with pytest.raises(InputError, match="96 x 96 pixels"):
        check_upload(clip)


def test_a_photo_is_kept_as_it_was_sent() -> None:
    image = Image.new("RGB", (8, 4))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)
    upload = check_upload(file.getvalue())
    assert upload.content == file.getvalue()  # as it was sent: a job reads it as the command line would
