"""Photos from a folder of the user's, as textures and skies."""

import os
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image

from gen3r.data.synthetic.textures import TILE, Array, Rng
from gen3r.errors import InputError

KINDS = (".jpg", ".jpeg", ".png")
LARGEST = 256  # pixels of the longer side that are kept
SKY_TRIES, SKY_LEAST = 10, 0.3  # photos that are looked at for a sky; what part of the rows it must fill


class Pictures:
    """The .jpg and .png files of a folder tree, and those inside its .zip files; read when they are asked for.

    Raises:
        InputError: there is no such folder, or no picture in it; a .zip file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; textures are the .jpg and .png files of a folder")
        self.names: list[tuple[Path, str]] = []  # the file, and the name in it if it is an archive
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in KINDS:
                self.names.append((path, ""))
            elif path.suffix.lower() == ".zip":
                inside = sorted(n for n in _archive(path, os.getpid()).namelist() if n.lower().endswith(KINDS))
                self.names += [(path, name) for name in inside]
        if not self.names:
            raise InputError(f"{folder} holds no .jpg or .png files, nor .zip files with some")

    def draw(self, rng: Rng) -> Image.Image:
        """One of them, in RGB, its longer side 256 pixels at most."""
        path, name = self.names[int(rng.integers(len(self.names)))]
        try:
            source = BytesIO(_archive(path, os.getpid()).read(name)) if name else path
            with Image.open(source) as opened:
                opened.draft("RGB", (LARGEST, LARGEST))
                picture = opened.convert("RGB")
        except (OSError, BadZipFile) as error:
            raise InputError(f"{path} {name} is damaged ({error}); remove it") from error
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        return picture

    def tile(self, rng: Rng, least: float, most: float) -> Array:
        """A crop [TILE, TILE, 3] in [0, 1], between these parts of the photo's shorter side, mirrored or not."""
        picture = self.draw(rng)
        side = min(picture.size) * rng.uniform(least, most)
        left, top = rng.uniform(0, picture.width - side), rng.uniform(0, picture.height - side)
        crop = picture.resize((TILE, TILE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        tile = np.asarray(crop, np.float32) / 255
        return tile[:, ::-1] if rng.random() < 0.5 else tile

    def sky(self, rng: Rng) -> Array | None:
        """The rows [h, w, 3] of a photo above everything but sky: bright, bluish at the top; None if it finds none."""
        for _ in range(SKY_TRIES):
            picture = np.asarray(self.draw(rng), np.float32) / 255
            red, _, blue = picture.transpose(2, 0, 1)
            like_sky = (picture.mean(-1) > 0.35) & (blue > red - 0.04)
            rows = int(np.append(like_sky.mean(1) < 0.985, True).argmax())
            if rows > SKY_LEAST * len(picture) and (blue - red)[:rows].mean() > 0.04:
                return picture[:rows]
        return None


@lru_cache
def pictures(folder: Path) -> Pictures:
    """The pictures of a folder, listed once."""
    return Pictures(folder)


@lru_cache
def _archive(path: Path, process: int) -> ZipFile:
    """An open archive; each process has its own, because a file that is forked has one position for all."""
    try:
        return ZipFile(path)
    except (OSError, BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}); remove it") from error
