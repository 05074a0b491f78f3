"""Datasets with a transforms.json per scene: nerfstudio's, and what its readers share with the standard form's."""

import json
import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.cameras.conventions import opengl_to_opencv
from gen3r.cameras.formats.nerfstudio import Transforms, parse_transforms
from gen3r.data.readers.base import Reader, folders_with
from gen3r.data.readers.frames import DepthFiles, PictureFiles, PointFile, picture_size
from gen3r.data.readers.lens import Lens
from gen3r.data.readers.poses import make_cameras
from gen3r.data.readers.text import read_text, text_lines
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.clouds import read_ply

TRANSFORMS, CAPTIONS = "transforms.json", "captions.txt"
LENSES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")


class TransformsReader(Reader):
    """Scenes in folders with a transforms.json, at any depth, and optional captions.txt, one caption per line."""

    opengl = False  # the axes of the poses; OpenCV's otherwise
    metric = False  # where the file does not say
    by_name = False  # frames in the order of their names, not of the file

    def find_scenes(self) -> Iterator[str]:
        """Folders with a transforms.json; the root itself counts."""
        for folder in folders_with(self.root, TRANSFORMS):
            yield folder.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        data = load_transforms(folder / TRANSFORMS)
        if self.by_name:
            data["frames"].sort(key=lambda frame: str(frame["file_path"]))
        paths = [self.picture(folder, str(frame["file_path"])) for frame in data["frames"]]
        try:
            found = parse_transforms(data, picture_size(paths[0]))
            lens = _lens(data, found)
        except InputError as error:
            raise InputError(f"{folder / TRANSFORMS}: {error}") from error
        T = opengl_to_opencv(torch.from_numpy(found.poses)).numpy() if self.opengl else found.poses
        captions = folder / CAPTIONS
        lines = tuple(x.strip() for x in text_lines(captions) if x.strip()) if captions.exists() else ()
        cloud = self.points(folder, data)
        return ClipRecord(
            str(data.get("dataset", self.name)), scene, make_cameras(T, found.intrinsics, found.size),
            PictureFiles(paths, lens, found.size), self.depth(folder, paths, data),
            bool(data.get("metric", self.metric)), lines,
            PointFile(read_ply, cloud, T[0]) if cloud.is_file() else None,
        )  # fmt: skip

    @abstractmethod
    def picture(self, folder: Path, file_path: str) -> Path:
        """The image file that an entry names."""

    @abstractmethod
    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        """The depth maps, if the scene has any."""

    @abstractmethod
    def points(self, folder: Path, data: dict[str, Any]) -> Path:
        """The point cloud, in the world of the poses; it may be missing."""


class Nerfstudio(TransformsReader):
    """nerfstudio's transforms.json (also instant-ngp's, Polycam's and Record3D's).

    Tree: <scene>/transforms.json and the images at their file_path. Poses: camera-to-world, OpenGL axes. Intrinsics
    in pixels or camera_angle_x, of the whole scene or of a frame; lens distortion k1 k2 p1 p2 k3 is undone. Depth:
    depth_file_path in every frame, 16-bit millimetres. Points: ply_file_path, in the world of the poses.

    Licence: that of the images.
    """

    name = "nerfstudio"
    licence = "that of the images"
    layout = "<scene>/transforms.json"
    opengl = True

    def picture(self, folder: Path, file_path: str) -> Path:
        path = folder / file_path
        return path if path.suffix else path.with_suffix(".png")

    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        names = [frame.get("depth_file_path") for frame in data["frames"]]
        return DepthFiles([folder / str(n) for n in names], 1000.0, math.inf) if all(names) else None

    def points(self, folder: Path, data: dict[str, Any]) -> Path:
        return folder / str(data.get("ply_file_path", ""))


def load_transforms(path: Path) -> dict[str, Any]:
    """A transforms.json with at least one frame, each with a file_path.

    Raises:
        InputError: the file is missing or damaged, or has no such frames.
    """
    try:
        data = json.loads(read_text(path))
        if not data["frames"] or not all(frame["file_path"] for frame in data["frames"]):
            raise ValueError("a frame without an image, or no frame")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no whole transforms.json ({error!r}); export it again") from error
    return data


def _lens(data: dict[str, Any], cameras: Transforms) -> Lens | None:
    """The lens of all frames; None without distortion."""
    model = str(data.get("camera_model", "OPENCV"))
    if model not in LENSES:
        raise InputError(f"the camera model {model} is not supported; undistort to {', '.join(LENSES)}")
    first = cameras.distortion[0]
    if not np.array_equal(cameras.distortion, np.broadcast_to(first, cameras.distortion.shape)):
        raise InputError("its frames have different lenses; undistort them first")
    return Lens(tuple(cameras.intrinsics[0]), tuple(first)) if first.any() else None
