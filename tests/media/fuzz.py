"""Damaged pictures and videos, the same ones every time. `python -m tests.media.fuzz pictures 2000` reads that many.

Prints one line of JSON: how many were read and refused, the longest time in seconds, and the greatest memory in MB.
"""

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from gen3r.errors import InputError
from gen3r.media.images import read_image
from gen3r.media.sequence import ImageSequence
from gen3r.media.video import read_video

# Suffix, Pillow's name of the format, mode, options.
PICTURES: list[tuple[str, str, str, dict[str, Any]]] = [
    (".png", "PNG", "RGBA", {}), (".png", "PNG", "I;16", {}), (".png", "PNG", "P", {}), (".jpg", "JPEG", "RGB", {}),
    (".jpg", "JPEG", "CMYK", {}), (".jpg", "JPEG", "L", {"progressive": True}), (".webp", "WEBP", "RGBA", {}),
    (".webp", "WEBP", "RGB", {"lossless": True}), (".avif", "AVIF", "RGB", {}), (".tif", "TIFF", "RGB", {}),
    (".tif", "TIFF", "F", {"compression": "tiff_lzw"}), (".tif", "TIFF", "I;16", {"compression": "tiff_deflate"}),
    (".tif", "TIFF", "LAB", {}), (".tif", "TIFF", "1", {"compression": "group4"}), (".gif", "GIF", "P", {}),
    (".bmp", "BMP", "RGB", {}), (".jp2", "JPEG2000", "RGB", {}), (".j2k", "JPEG2000", "L", {}),
    (".ppm", "PPM", "RGB", {}), (".pgm", "PPM", "I;16", {}), (".pfm", "PPM", "F", {}), (".tga", "TGA", "RGBA", {}),
    (".qoi", "QOI", "RGBA", {}), (".dds", "DDS", "RGBA", {}), (".dds", "DDS", "RGB", {"pixel_format": "DXT1"}),
    (".ico", "ICO", "RGBA", {}), (".icns", "ICNS", "RGBA", {}), (".pcx", "PCX", "P", {}), (".sgi", "SGI", "RGB", {}),
    (".im", "IM", "YCbCr", {}), (".msp", "MSP", "1", {}), (".xbm", "XBM", "1", {}), (".spi", "SPIDER", "F", {}),
    (".blp", "BLP", "P", {"blp_version": "BLP1"}), (".eps", "EPS", "RGB", {}), (".heic", "HEIF", "RGB", {}),
    (".mpo", "MPO", "RGB", {}),
]  # fmt: skip
# Suffix, FFmpeg's container, codec, pixel format.
VIDEOS = [
    (".mp4", "mp4", "libx264", "yuv420p"), (".mov", "mov", "mpeg4", "yuv420p"),
    (".mkv", "matroska", "libx264", "yuv420p"), (".webm", "webm", "libvpx", "yuv420p"),
    (".avi", "avi", "mpeg4", "yuv420p"), (".ts", "mpegts", "mpeg2video", "yuv420p"),
    (".mpg", "mpeg", "mpeg2video", "yuv420p"), (".flv", "flv", "flv1", "yuv420p"),
    (".mxf", "mxf", "mpeg2video", "yuv420p"), (".ogv", "ogg", "libvpx", "yuv420p"),
    (".wmv", "asf", "wmv2", "yuv420p"), (".mov", "mov", "prores_ks", "yuva444p10le"),
    (".mjpeg", "mjpeg", "mjpeg", "yuvj420p"), (".y4m", "yuv4mpegpipe", "rawvideo", "yuv420p"),
]  # fmt: skip


def pictures() -> Iterator[tuple[str, bytes]]:
    """A small good picture of each format, as suffix and bytes."""
    if any(kind == "HEIF" for _, kind, _, _ in PICTURES):
        import pillow_heif

        pillow_heif.register_heif_opener()
    y, x = np.mgrid[:36, :48]
    rgb = Image.fromarray(np.stack([5 * x, 7 * y, 3 * (x + y)], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, kind, mode, options in PICTURES:
        image = {
            "I;16": lambda: Image.fromarray((900 * x + 600 * y).astype(np.uint16)),
            "F": lambda: Image.fromarray((x / 48).astype(np.float32)),
            "LAB": lambda: Image.merge("LAB", rgb.split()),
        }.get(mode, lambda mode=mode: rgb.convert(mode))()
        data = io.BytesIO()
        if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
            options = {**options, "exif": exif}
        if kind in ("ICNS", "ICO"):
            image = image.resize((64, 64))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of formats that Pillow is to drop
            image.save(data, kind, **options)
        yield suffix, data.getvalue()


def videos() -> Iterator[tuple[str, bytes]]:
    """A small good video of each container, as suffix and bytes."""
    for suffix, container_format, codec, pixels in VIDEOS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip"
            with av.open(str(path), "w", format=container_format) as container:
                stream = container.add_stream(codec, rate=Fraction(25), width=64, height=48, pix_fmt=pixels)
                for i in range(6):
                    frame = np.full((48, 64, 3), 40 * i, np.uint8)
                    frame[:, : 8 * i] = (200, 30, 90)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
            yield suffix, path.read_bytes()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with some bytes changed, mostly in its first part, and sometimes cut, or with a part lost or doubled."""
    values = bytearray(data)
    for _ in range(int(rng.choice([0, 1, 2, 8, 64], p=[0.1, 0.3, 0.3, 0.2, 0.1]))):
        head = min(len(values), 400) if rng.random() < 0.6 else len(values)
        values[int(rng.integers(head))] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
    a, b = sorted(int(x) for x in rng.integers(len(values), size=2))
    how = rng.random()
    if how < 0.15:
        return bytes(values[:b])
    if how < 0.25:
        return bytes(values[:a] + values[b:])
    return bytes(values[:b] + values[a:]) if how < 0.3 else bytes(values)


def read_damaged(
    files: list[tuple[str, bytes]], count: int, folder: Path, read: Callable[[Path], object], seed: int = 0
) -> tuple[Counter[str], float]:
    """Reads `count` damaged copies of the files in turn: how many were read and refused, and the longest time.

    Raises:
        AssertionError: something other than a line that names the file came out.
    """
    outcomes, longest = Counter[str](), 0.0
    for number, (suffix, data) in zip(range(count), cycle(files), strict=False):
        path = folder / f"file{number}{suffix}"
        path.write_bytes(damaged(data, np.random.default_rng([seed, number])))
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
            outcomes["read"] += 1
        except InputError as error:
            if path.name not in str(error) or not str(error).isprintable():
                raise AssertionError(f"{suffix}, number {number}: {error!r}") from error
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{suffix}, number {number}: {type(error).__name__}: {error}") from error
        longest = max(longest, time.perf_counter() - start)
        path.unlink()
    return outcomes, longest


def read_picture(path: Path) -> None:
    read_image(path)


def read_clip(path: Path) -> None:
    """As the command line does, then whole."""
    ImageSequence.open([path]).sample(5, 28, 28)
    read_video(path)


def read_long(kind: str, count: int) -> dict[str, float]:
    """What `main` prints, from a process of its own."""
    command = [sys.executable, "-m", "tests.media.fuzz", kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def main(kind: str, count: int) -> None:
    files, read = (pictures, read_picture) if kind == "pictures" else (videos, read_clip)
    with tempfile.TemporaryDirectory() as folder:
        outcomes, longest = read_damaged(list(files()), count, Path(folder), read)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**outcomes, "longest": round(longest, 2), "memory": round(memory)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
