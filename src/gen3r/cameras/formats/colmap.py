"""COLMAP's sparse models, text and binary: cameras and images, sorted by picture name, and points."""

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import colmap_to_opencv
from gen3r.errors import InputError

# Model: (name, number of parameters). The first parameters are f, cx, cy or fx, fy, cx, cy; the rest is distortion.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
}  # fmt: skip
_COUNTS = dict(MODELS.values())
Image = tuple[str, int, list[float], list[float]]


@dataclass(frozen=True)
class ColmapLens:
    """K_px: 3 x 3, in pixels. distortion: k1, k2, p1, p2, k3 (OpenCV's order), 0 for a pinhole."""

    K_px: list[list[float]]
    height: int
    width: int
    distortion: tuple[float, ...]


@dataclass(frozen=True)
class ColmapModel:
    """Pictures in the order of their names: T_world_camera float64 [F, 4, 4], K_px [F, 3, 3], one distortion.

    points: the file of the model's points, if it is there.
    """

    names: list[str]
    T_world_camera: Tensor
    K_px: Tensor
    height: int
    width: int
    distortion: tuple[float, ...]
    points: Path | None


def read_colmap(folder: Path) -> Cameras:
    """The cameras of a sparse model's folder, or of its `sparse/0` or `0` below; lens distortion is ignored.

    Raises:
        InputError: files are missing, damaged, use another camera model, or pictures differ in size.
    """
    model = read_colmap_model(folder)
    if any(model.distortion):
        warnings.warn("the lens distortion in the COLMAP model is ignored", stacklevel=3)
    return Cameras(model.T_world_camera.float(), model.K_px, model.height, model.width)


def read_colmap_model(folder: Path) -> ColmapModel:
    """The same with the pictures' names and their lens; errors as `read_colmap`, and more than one distortion."""
    for place in (folder, folder / "sparse" / "0", folder / "sparse", folder / "0"):
        for suffix, cameras, images in ((".bin", _cameras_bin, _images_bin), (".txt", _cameras_txt, _images_txt)):
            if (place / f"cameras{suffix}").is_file() and (place / f"images{suffix}").is_file():
                try:
                    lenses = cameras(place / f"cameras{suffix}")
                    points = place / f"points3D{suffix}"
                    points = points if points.is_file() else None
                    return _assemble(lenses, sorted(images(place / f"images{suffix}")), place, points)
                except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
                    if isinstance(error, InputError):
                        raise
                    raise InputError(f"{place}: the COLMAP model is damaged ({error}); export it again") from error
    raise InputError(f"{folder} holds no COLMAP model: cameras.txt and images.txt, or the same as .bin")


def _assemble(lenses: dict[int, ColmapLens], images: list[Image], place: Path, points: Path | None) -> ColmapModel:
    if not images:
        raise InputError(f"{place}: the COLMAP model has no picture")
    used = [lenses[camera] for _, camera, _, _ in images]
    sizes, distortions = {(lens.height, lens.width) for lens in used}, {lens.distortion for lens in used}
    if len(sizes) > 1:
        raise InputError(f"{place}: the pictures have {len(sizes)} different sizes; give one size")
    if len(distortions) > 1:
        raise InputError(f"{place}: the pictures have {len(distortions)} different lenses; undistort them first")
    quaternion = torch.tensor([q for _, _, q, _ in images], dtype=torch.float64)
    translation = torch.tensor([t for _, _, _, t in images], dtype=torch.float64)
    K = torch.tensor([lens.K_px for lens in used])
    names = [name for name, *_ in images]
    return ColmapModel(names, colmap_to_opencv(quaternion, translation), K, *sizes.pop(), distortions.pop(), points)


def read_colmap_points(path: Path) -> tuple[Tensor, Tensor]:
    """The points float64 [N, 3] of a points3D.txt or .bin, in the model's world, and their colours uint8 [N, 3].

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        rows = list((_points_bin if path.suffix == ".bin" else _points_txt)(path))
        points, colours = torch.tensor([r[:3] for r in rows], dtype=torch.float64), torch.tensor([r[3:] for r in rows])
        return points.reshape(-1, 3), colours.reshape(-1, 3).to(torch.uint8)
    except (OSError, struct.error, ValueError) as error:
        raise InputError(f"{path}: the COLMAP points are damaged ({error}); export them again") from error


def _lens(model: str, width: int, height: int, p: list[float]) -> ColmapLens:
    if model not in _COUNTS:
        raise InputError(f"the camera model {model} is not supported; undistort to {', '.join(_COUNTS)}")
    one_focal = model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
    fx, fy, cx, cy = (p[0], p[0], p[1], p[2]) if one_focal else p[:4]
    distortion = p[3 if one_focal else 4 :]
    return ColmapLens(
        [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], height, width, (*distortion, *[0.0] * (5 - len(distortion)))
    )


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def _cameras_txt(path: Path) -> dict[int, ColmapLens]:
    rows = [line.split() for line in _lines(path) if line.strip()]
    return {int(r[0]): _lens(r[1], int(r[2]), int(r[3]), [float(x) for x in r[4:]]) for r in rows}


def _images_txt(path: Path) -> Iterator[Image]:
    """Every picture has two lines; the second, its points, may be empty."""
    lines = _lines(path)
    while lines and not lines[0].strip():
        lines = lines[1:]
    for line in lines[::2]:
        fields = line.split(maxsplit=9)
        if fields:
            numbers = [float(x) for x in fields[1:8]]
            yield fields[9], int(fields[8]), numbers[:4], numbers[4:]


def _points_txt(path: Path) -> Iterator[tuple]:
    """x, y, z, red, green, blue of each point; its number, error and pictures are not needed."""
    for fields in (line.split() for line in _lines(path) if line.strip()):
        if len(fields) < 8:
            raise ValueError(f"a point has {len(fields)} entries")
        yield (*(float(x) for x in fields[1:4]), *(int(x) for x in fields[4:7]))


class _Reader:
    """Little-endian values one after another."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def name(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text


def _cameras_bin(path: Path) -> dict[int, ColmapLens]:
    reader = _Reader(path)
    lenses = {}
    for _ in range(reader.take("Q")[0]):
        number, model, width, height = reader.take("iiQQ")
        if model not in MODELS:
            raise InputError(f"camera model number {model} is not supported; undistort to {', '.join(_COUNTS)}")
        name, count = MODELS[model]
        lenses[number] = _lens(name, width, height, list(reader.take(f"{count}d")))
    return lenses


def _images_bin(path: Path) -> Iterator[Image]:
    reader = _Reader(path)
    for _ in range(reader.take("Q")[0]):
        _, *pose, camera = reader.take("i7di")
        name = reader.name()
        reader.take(f"{reader.take('Q')[0] * 24}x")
        yield name, camera, list(pose[:4]), list(pose[4:])


def _points_bin(path: Path) -> Iterator[tuple]:
    reader = _Reader(path)
    for _ in range(reader.take("Q")[0]):
        _, *point, _, pictures = reader.take("Q3d3BdQ")
        reader.take(f"{pictures * 8}x")
        yield tuple(point)
