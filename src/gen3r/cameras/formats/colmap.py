"""COLMAP's sparse models, text and binary: cameras, images and points."""

import mmap
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen3r.cameras.conventions import colmap_to_opencv
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.lens import Lens
from gen3r.errors import InputError


class Model(NamedTuple):
    """A camera model: its name, whether it has one focal length for both axes, what kind of lens it is, and the names
    of the coefficients that follow the focal lengths and the principal point."""

    name: str
    one_focal: bool
    kind: str
    coefficients: tuple[str, ...] = ()


BROWN = ("k1", "k2", "p1", "p2")
MODELS = (  # in the order of COLMAP's numbers; a panorama is no lens in front of an image
    Model("SIMPLE_PINHOLE", True, "perspective"),
    Model("PINHOLE", False, "perspective"),
    Model("SIMPLE_RADIAL", True, "perspective", ("k1",)),
    Model("RADIAL", True, "perspective", ("k1", "k2")),
    Model("OPENCV", False, "perspective", BROWN),
    Model("OPENCV_FISHEYE", False, "fisheye", ("k1", "k2", "k3", "k4")),
    Model("FULL_OPENCV", False, "perspective", (*BROWN, "k3", "d1", "d2", "d3")),
    Model("FOV", False, "fov", ("omega",)),
    Model("SIMPLE_RADIAL_FISHEYE", True, "fisheye", ("k1",)),
    Model("RADIAL_FISHEYE", True, "fisheye", ("k1", "k2")),
    Model("THIN_PRISM_FISHEYE", False, "fisheye", (*BROWN, "k3", "k4", "sx1", "sy1")),
    Model("RAD_TAN_THIN_PRISM_FISHEYE", False, "fisheye624",
          ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3")),
    Model("SIMPLE_DIVISION", True, "division", ("k",)),
    Model("DIVISION", False, "division", ("k",)),
    Model("SIMPLE_FISHEYE", True, "fisheye"),
    Model("FISHEYE", False, "fisheye"),
    Model("EUCM", False, "eucm", ("alpha", "beta")),
)  # fmt: skip
BY_NAME = {model.name: model for model in MODELS}
PLACES = (".", "sparse/0", "sparse", "0")


class Image(NamedTuple):
    """An entry of images.txt or .bin; the pose is world-to-camera, its quaternion [4] w first."""

    name: str
    camera: int
    quaternion: list[float]
    translation: list[float]


def read_colmap(folder: Path) -> PosedImages:
    """The cameras of a sparse model in a folder, or in its `sparse/0`, `sparse` or `0`.

    Raises:
        InputError: files are missing or damaged, a camera is of a model that is not read, or a pose is impossible.
    """
    place, suffix = _place(folder)
    if place.name == "0" and (place.parent / "1").is_dir():
        warnings.warn(f"{place.parent} holds several models, whose worlds differ; 0 is read", stacklevel=2)
    read_cameras, read_images = (_cameras_bin, _images_bin) if suffix == ".bin" else (_cameras_txt, _images_txt)
    try:
        lenses = read_cameras(place / f"cameras{suffix}")
        return _assemble(lenses, list(read_images(place / f"images{suffix}")))
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (struct.error, ValueError, IndexError, OSError, OverflowError) as error:
        raise InputError(f"{place}: the COLMAP model is damaged ({error}); export it again") from error


def colmap_points_file(folder: Path) -> Path | None:
    """The file of the points of the model that `read_colmap` reads; None without."""
    place, suffix = _place(folder)
    path = place / f"points3D{suffix}"
    return path if path.is_file() else None


def find_colmap(folder: Path) -> tuple[Path, str] | None:
    """Where a folder's model lies, and the suffix of its files; None without."""
    for place in (folder / name for name in PLACES):
        for suffix in (".bin", ".txt"):
            if (place / f"cameras{suffix}").is_file() and (place / f"images{suffix}").is_file():
                return place, suffix
    return None


def _place(folder: Path) -> tuple[Path, str]:
    if found := find_colmap(folder):
        return found
    raise InputError(f"{folder} holds no COLMAP model: cameras.txt and images.txt, or the same as .bin")


def _assemble(lenses: dict[int, Lens], images: list[Image]) -> PosedImages:
    if not images:
        raise InputError("the COLMAP model has no image")
    for image in images:
        if image.camera not in lenses:
            raise InputError(f"{image.name} has camera {image.camera}, which is not there; export the model again")
        if not np.linalg.norm(image.quaternion) > 1e-6:  # also where it is not a number
            raise InputError(f"the pose of {image.name} has no rotation: its quaternion is {image.quaternion}")
    names, cameras, *poses = zip(*images, strict=True)
    T = colmap_to_opencv(*(torch.tensor(values, dtype=torch.float64) for values in poses))
    return PosedImages.checked(T.numpy(), [lenses[camera] for camera in cameras], names)


def _lens(model: Model, width: int, height: int, parameters: list[float]) -> Lens:
    fx, *rest = parameters
    fy, cx, cy, *values = (fx, *rest) if model.one_focal else rest
    coefficients = tuple(zip(model.coefficients, values, strict=True))
    return Lens((height, width), (fx, fy, cx, cy), coefficients, model.kind, model.name)


def _unknown(model: object) -> InputError:
    return InputError(f"the camera model {model} is not supported; undistort to {', '.join(BY_NAME)}")


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


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:  # names are bytes of any kind
        yield from (line.rstrip("\n") for line in file if not line.startswith("#"))


def _cameras_txt(path: Path) -> dict[int, Lens]:
    lenses = {}
    for number, name, width, height, *values in (line.split() for line in _lines(path) if line.strip()):
        if name not in BY_NAME:
            raise _unknown(name)
        lenses[int(number)] = _lens(BY_NAME[name], int(width), int(height), [float(x) for x in values])
    return lenses


def _images_txt(path: Path) -> Iterator[Image]:
    """An image's line is followed by one of its points, which may be empty, and which some tools leave out."""
    after_image = False
    for line in _lines(path):
        if not line.strip() or (after_image and _is_points(line)):
            after_image = False
            continue
        fields, after_image = line.split(maxsplit=9), True
        numbers = [float(x) for x in fields[1:8]]
        yield Image(fields[9].strip(), int(fields[8]), numbers[:4], numbers[4:])


def _is_points(line: str) -> bool:
    """Whether a line holds the points of an image: triples of x, y and the number of a 3-D point."""
    fields = line.split()
    try:
        return len(fields) % 3 == 0 and [float(x) for x in fields[-3:]][2].is_integer()
    except ValueError:
        return False


def _points_txt(path: Path) -> Iterator[list[float]]:
    """x, y, z, red, green, blue of each point; its number, error and images are not needed."""
    for fields in (line.split() for line in _lines(path) if line.strip()):
        if len(fields) < 8:
            raise ValueError(f"a point has {len(fields)} entries")
        yield [float(x) for x in fields[1:7]]


class _Binary:
    """A file of little-endian values, one after another; the first is a count."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.data, self.at = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), 0
        self.count: int = self.take("Q")[0]

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise ValueError("it ends too early")

    def name(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ValueError("a name does not end")
        start, self.at = self.at, end + 1
        return os.fsdecode(self.data[start:end])


def _cameras_bin(path: Path) -> dict[int, Lens]:
    file, lenses = _Binary(path), {}
    for _ in range(file.count):
        number, model, width, height = file.take("iiQQ")
        if not 0 <= model < len(MODELS):
            raise _unknown("EQUIRECTANGULAR" if model == len(MODELS) else f"number {model}")
        count = (3 if MODELS[model].one_focal else 4) + len(MODELS[model].coefficients)
        lenses[number] = _lens(MODELS[model], width, height, list(file.take(f"{count}d")))
    return lenses


def _images_bin(path: Path) -> Iterator[Image]:
    file = _Binary(path)
    for _ in range(file.count):
        _, *pose, camera = file.take("i7di")
        name = file.name()
        file.skip(24 * file.take("Q")[0])
        yield Image(name, camera, pose[:4], pose[4:])


def _points_bin(path: Path) -> Iterator[list[float]]:
    file = _Binary(path)
    for _ in range(file.count):
        _, *point, _, pictures = file.take("Q3d3BdQ")
        file.skip(8 * pictures)
        yield point
