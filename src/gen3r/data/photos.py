"""Photos of folders, and those that Python packages ship under free licences: textures, skies, and moving crops."""

import os
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.images import has_junk

KINDS = (".jpg", ".jpeg", ".png")
LARGEST = 256  # pixels of the longer side that are kept
SKY_TRIES, SKY_LEAST = 10, 0.3  # photos that are looked at for a sky; what part of the rows it must fill

# Photos in scikit-image and scikit-learn for a split's textures: CC0, public domain, or CC BY 2.0 (flower, china).
SHIPPED = {
    "train": (*(f"skimage/data/{n}" for n in ("chelsea.png", "coffee.png", "rocket.jpg", "grass.png", "gravel.png",
                                              "brick.png")), "sklearn/datasets/images/flower.jpg"),
    "test": ("skimage/data/retina.jpg", "skimage/data/ihc.png", "sklearn/datasets/images/china.jpg"),
}  # fmt: skip


class Photos:
    """Photos that are read when they are asked for. names: files, each with the name in it if it is an archive."""

    def __init__(self, names: list[tuple[Path, str]]) -> None:
        self.names = names

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """One of them, in RGB, its longer side 256 pixels at most.

        Raises:
            InputError: it is damaged.
        """
        path, name = self.names[int(rng.integers(len(self.names)))]
        try:
            return _read(path, name)
        except (OSError, BadZipFile) as error:
            raise InputError(f"{path / name} is damaged ({error}); remove it") from error

    def tile(self, rng: np.random.Generator, size: int, least: float, most: float) -> np.ndarray:
        """A crop [size, size, 3] in [0, 1], between these parts of the photo's shorter side, mirrored or not."""
        picture = self.draw(rng)
        side = min(picture.size) * rng.uniform(least, most)
        left, top = rng.uniform(0, picture.width - side), rng.uniform(0, picture.height - side)
        crop = picture.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        tile = np.asarray(crop, np.float32) / 255
        return tile[:, ::-1] if rng.random() < 0.5 else tile

    def sky(self, rng: np.random.Generator) -> np.ndarray | None:
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
def photos_in(folder: Path) -> Photos:
    """The .jpg and .png files of a folder tree, and those inside its .zip files.

    Raises:
        InputError: there is no such folder, or no picture in it; a .zip file is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; textures are the .jpg and .png files of a folder")
    names = []
    for path in sorted(folder.rglob("*")):
        if has_junk(path.relative_to(folder)):
            continue
        if path.suffix.lower() in KINDS:
            names.append((path, ""))
        elif path.suffix.lower() == ".zip":
            inside = sorted(_archive(path, os.getpid()).namelist())
            names += [(path, name) for name in inside if name.lower().endswith(KINDS) and not has_junk(Path(name))]
    if not names:
        raise InputError(f"{folder} holds no .jpg or .png files, nor .zip files with some")
    return Photos(names)


@lru_cache
def shipped(split: str) -> Photos:
    """The packages' photos for that split."""
    parts = [name.split("/", 1) for name in SHIPPED[split]]
    return Photos([(Path(str(files(package) / path)), "") for package, path in parts])


@lru_cache(32)
def _read(path: Path, name: str) -> Image.Image:
    with Image.open(BytesIO(_archive(path, os.getpid()).read(name)) if name else path) as opened:
        opened.draft("RGB", (LARGEST, LARGEST))
        picture = opened.convert("RGB")
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    return picture


@lru_cache
def _archive(path: Path, process: int) -> ZipFile:
    """An open archive; each process has its own, because a file that is forked has one position for all."""
    try:
        return ZipFile(path)
    except (OSError, BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}); remove it") from error


def moving_photos(rng: np.random.Generator, photos: Photos, frames: int, height: int, width: int) -> Tensor:
    """A clip uint8 [F, 3, H, W] of a crop that pans, turns and zooms over one of the photos."""
    picture = np.asarray(photos.draw(rng), np.float32) / 255
    photo = torch.from_numpy(picture).permute(2, 0, 1)
    shorter = min(photo.shape[1:])
    least = min(height / shorter, 0.95)  # finer crops would be blurred
    zoom = rng.uniform(0.8 * least, 0.95) * np.exp(np.linspace(0, rng.normal(0, 0.1), frames))
    zoom = np.clip(zoom, 0.15, 1.0)
    angle = np.linspace(0, rng.normal(0, 0.05), frames)
    flip = rng.choice([-1.0, 1.0])
    side = zoom[:, None] * shorter / np.array([photo.shape[2], photo.shape[1]])  # of the crop, as parts of the photo's
    room = 1 - side.max(0)
    centre = rng.uniform(-room, room) + np.linspace(0, 1, frames)[:, None] * rng.normal(0, 0.15, 2)
    across, down = side[:, 0], side[:, 1]
    first = np.stack([flip * across * np.cos(angle), -across * np.sin(angle), centre[:, 0]], -1)
    second = np.stack([flip * down * np.sin(angle), down * np.cos(angle), centre[:, 1]], -1)
    theta = torch.from_numpy(np.stack([first, second], 1)).float()
    # Shrink the photo first so that the crop is sampled near its own resolution, without aliasing.
    scale = min(1.0, 1.2 * height / (zoom.mean() * shorter))
    small = F.interpolate(photo[None], scale_factor=scale, mode="bilinear", antialias=True, align_corners=False)
    grid = F.affine_grid(theta, [frames, 3, height, width], align_corners=False)
    clip = F.grid_sample(small.expand(frames, -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
    return (clip * 255 + 0.5).clamp(0, 255).to(torch.uint8)
