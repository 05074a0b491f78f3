"""Datasets with a transforms.json per scene: nerfstudio's, and what its readers share with the standard form's."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.formats.nerfstudio import parse_transforms
from gen3r.data.readers.base import Reader, folders_with
from gen3r.data.readers.frames import DepthFiles, PictureFiles, PointFile, picture_size, straightened
from gen3r.data.readers.pictures import SHRUNK, find_pictures, locate
from gen3r.data.readers.text import text_lines
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.files import parse_json, read_text
from gen3r.geometry.clouds import read_ply
from gen3r.media.order import natural_order

TRANSFORMS, CAPTIONS = "transforms.json", "captions.txt"


class TransformsReader(Reader):
    """Scenes in folders with a transforms.json, at any depth, and optional captions.txt, one caption per line."""

    opengl = False  # the axes of the poses; OpenCV's otherwise
    metric = False  # where the file does not say

    def find_scenes(self) -> Iterator[str]:
        """Folders with a transforms.json; the root itself counts."""
        for folder in folders_with(self.root, TRANSFORMS):
            yield folder.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        data = load_transforms(folder / TRANSFORMS)
        paths = self.pictures(folder, [frame["file_path"] for frame in data["frames"]])
        there = [path for path in paths if path]
        try:
            images = parse_transforms(data, picture_size(there[0]) if there else None, self.opengl)
        except InputError as error:
            raise InputError(f"{folder / TRANSFORMS}: {error}") from error
        images, files, numbers, left_out = locate(images, paths, folder, self.strict)
        data["frames"] = [data["frames"][i] for i in numbers]
        depth, T, captions = self.depth(folder, files, data), images.T_world_camera, folder / CAPTIONS
        lines = tuple(x.strip() for x in text_lines(captions) if x.strip()) if captions.exists() else ()
        cloud = self.points(folder, data)
        return ClipRecord(
            str(data.get("dataset", self.name)), scene, make_cameras(T, images.intrinsics, images.size),
            straightened(PictureFiles(files, images.size), images.lens_of_each),
            None if depth is None else straightened(depth, images.lens_of_each),
            bool(data.get("metric", self.metric)), lines,
            PointFile(read_ply, cloud, T[0]) if cloud.is_file() else None, left_out,
        )  # fmt: skip

    @abstractmethod
    def pictures(self, folder: Path, names: list[str]) -> list[Path | None]:
        """The image files that entries name; None for a missing one."""

    @abstractmethod
    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        """The depth maps, if the scene has any."""

    @abstractmethod
    def points(self, folder: Path, data: dict[str, Any]) -> Path:
        """The point cloud, in the world of the poses; it may be missing."""


class Nerfstudio(TransformsReader):
    """nerfstudio's transforms.json (also instant-ngp's, Polycam's and Record3D's).

    Tree: <scene>/transforms.json and the images at their file_path, or shrunk in images_2, images_4 or images_8. Poses:
    camera-to-world, OpenGL axes. Intrinsics in pixels or as angles of view, of the whole scene or of a frame; the lens
    (OPENCV, OPENCV_FISHEYE) is undone, other models are refused. Depth: depth_file_path in every frame, 16-bit
    millimetres, through the same lens. Points: ply_file_path, in the world of the poses. Frames in the natural order of
    their names.

    Licence: that of the images.
    """

    name = "nerfstudio"
    licence = "that of the images"
    layout = "<scene>/transforms.json"
    opengl = True

    def pictures(self, folder: Path, names: list[str]) -> list[Path | None]:
        return find_pictures([folder, *(folder / name for name in SHRUNK)], names)

    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        names = [frame.get("depth_file_path") for frame in data["frames"]]
        if not all(names):
            return None
        found = find_pictures([folder], [str(name) for name in names])
        paths = [path or folder / str(name) for path, name in zip(found, names, strict=True)]
        return DepthFiles(paths, 1000.0, math.inf)

    def points(self, folder: Path, data: dict[str, Any]) -> Path:
        return folder / str(data.get("ply_file_path", "")).replace("\\", "/")


def load_transforms(path: Path) -> dict[str, Any]:
    """A transforms.json whose frames all name their images, in the natural order of these names.

    Raises:
        InputError: the file is missing or damaged, or has no such frames.
    """
    data = parse_json(read_text(path, "transforms.json"), path)
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path} is no whole transforms.json: it has no frames; export it again")
    for i, frame in enumerate(frames):
        if not (isinstance(frame, dict) and isinstance(frame.get("file_path"), str) and frame["file_path"]):
            raise InputError(f"{path}: frame {i} names no image; export it again")
    frames.sort(key=lambda frame: natural_order(frame["file_path"]))
    return data
