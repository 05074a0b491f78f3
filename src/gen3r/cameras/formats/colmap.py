"""COLMAP's sparse models, text and binary: cameras and images, sorted by image name, and points."""

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import colmap_to_opencv, intrinsic_matrices
from gen3r.errors import InputError
from gen3r.media.crop import Size

# Model: (name, number of parameters). The first parameters are f, cx, cy or fx, fy, cx, cy; the rest is distortion.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
}  # fmt: skip
NAMES = tuple(name for name, _ in MODELS.values())
ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
Lens = tuple[Size, list[float], tuple[float, ...]]  # size; fx, fy, cx, cy; k1, k2, p1, p2, k3
Image = tuple[str, int, list[float], list[float]]  # name, camera, quaternion, translation


@dataclass(frozen=True)
class ColmapModel:
    """Images in the order of their names: T_world_camera float64 [F, 4, 4], intrinsics [F, 4] (fx, fy, cx, cy), size
    (height, width), one distortion (k1, k2, p1, p2, k3; OpenCV's order), and the file of the points, if it is there."""

    names: list[str]
    T_world_camera: Tensor
    intrinsics: np.ndarray
    size: Size
    distortion: tuple[float, ...]
    points: Path | None


def read_colmap(folder: Path) -> Cameras:
    """The cameras of a sparse model's folder, or of its `sparse/0` or `0` below; lens distortion is ignored.

    Raises:
        InputError: files are missing, damaged, use another camera model, or images differ in size.
    """
    model = read_colmap_model(folder)
    if any(model.distortion):
        warnings.warn("the lens distortion in the COLMAP model is ignored", stacklevel=3)
    return Cameras(model.T_world_camera.float(), intrinsic_matrices(model.intrinsics).float(), *model.size)


def read_colmap_model(folder: Path) -> ColmapModel:
    """The same with the images' names and their lens; errors as `read_colmap`, and more than one distortion."""
    for place in (folder, folder / "sparse" / "0", folder / "sparse", folder / "0"):
        for suffix, cameras, images in ((".bin", _cameras_bin, _images_bin), (".txt", _cameras_txt, _images_txt)):
            if (place / f"cameras{suffix}").is_file() and (place / f"images{suffix}").is_file():
                try:
                    lenses = cameras(place / f"cameras{suffix}")
                    return _assemble(lenses, sorted(images(place / f"images{suffix}")), place / f"points3D{suffix}")
                except InputError as error:
                    raise InputError(f"{place}: {error}") from error
                except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
                    raise InputError(f"{place}: the COLMAP model is damaged ({error}); export it again") from error
    raise InputError(f"{folder} holds no COLMAP model: cameras.txt and images.txt, or the same as .bin")


def _assemble(lenses: dict[int, Lens], images: list[Image], points: Path) -> ColmapModel:
    if not images:
        raise InputError("the COLMAP model has no image")
    names, cameras, quaternions, translations = zip(*images, strict=True)
    sizes, intrinsics, distortions = zip(*(lenses[camera] for camera in cameras), strict=True)
    if len(set(sizes)) > 1:
        raise InputError(f"the images have {len(set(sizes))} different sizes; give one size")
    if len(set(distortions)) > 1:
        raise InputError(f"the images have {len(set(distortions))} different lenses; undistort them first")
    T = colmap_to_opencv(*(torch.tensor(x, dtype=torch.float64) for x in (quaternions, translations)))
    found = points if points.is_file() else None
    return ColmapModel(list(names), T, np.array(intrinsics), sizes[0], distortions[0], found)


def _lens(model: str, width: int, height: int, parameters: list[float]) -> Lens:
    if model not in NAMES:
        raise InputError(f"the camera model {model} is not supported; undistort to {', '.join(NAMES)}")
    fx, *rest = parameters
    fy, cx, cy, *distortion = (fx, *rest) if model in ONE_FOCAL else rest
    return (height, width), [fx, fy, cx, cy], (*distortion, *[0.0] * (5 - len(distortion)))


def read_colmap_points(path: Path) -> tuple[Tensor, Tensor]:
    """The points float64 [N, 3] of a points3D.txt or .bin, in the model's world, and their colours uint8 [N, 3].

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        rows = torch.tensor(list((_points_bin if path.suffix == ".bin" else _points_txt)(path)), dtype=torch.float64)
        points, colours = rows.reshape(-1, 6).split(3, dim=1)
        return points, colours.to(torch.uint8)
    except (OSError, struct.error, ValueError) as error:
        raise InputError(f"{path}: the COLMAP points are damaged ({error}); export them again") from error


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def _cameras_txt(path: Path) -> dict[int, Lens]:
    rows = [line.split() for line in _lines(path) if line.strip()]
    return {int(r[0]): _lens(r[1], int(r[2]), int(r[3]), [float(x) for x in r[4:]]) for r in rows}


def _images_txt(path: Path) -> Iterator[Image]:
    """Every image has two lines; the second, its points, may be empty."""
    lines = _lines(path)
    while lines and not lines[0].strip():
        lines = lines[1:]
    for fields in (line.split(maxsplit=9) for line in lines[::2] if line.strip()):
        numbers = [float(x) for x in fields[1:8]]
        yield fields[9], int(fields[8]), numbers[:4], numbers[4:]


def _points_txt(path: Path) -> Iterator[list[float]]:
    """x, y, z, red, green, blue of each point; its number, error and images are not needed."""
    for fields in (line.split() for line in _lines(path) if line.strip()):
        if len(fields) < 8:
            raise ValueError(f"a point has {len(fields)} entries")
        yield [float(x) for x in fields[1:7]]


class _Binary:
    """A file of little-endian values, one after another; the first is a count."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 0
        self.count: int = self.take("Q")[0]

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def name(self) -> str:
        start, self.at = self.at, self.data.index(b"\0", self.at) + 1
        return self.data[start : self.at - 1].decode()


def _cameras_bin(path: Path) -> dict[int, Lens]:
    file, lenses = _Binary(path), {}
    for _ in range(file.count):
        number, model, width, height = file.take("iiQQ")
        name, count = MODELS.get(model, (f"number {model}", 0))
        lenses[number] = _lens(name, width, height, list(file.take(f"{count}d")))
    return lenses


def _images_bin(path: Path) -> Iterator[Image]:
    file = _Binary(path)
    for _ in range(file.count):
        _, *pose, camera = file.take("i7di")
        name = file.name()
        file.take(f"{file.take('Q')[0] * 24}x")
        yield name, camera, pose[:4], pose[4:]


def _points_bin(path: Path) -> Iterator[list[float]]:
    file = _Binary(path)
    for _ in range(file.count):
        _, *point, _, pictures = file.take("Q3d3BdQ")
        file.take(f"{pictures * 8}x")
        yield point
