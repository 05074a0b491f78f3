"""transforms.json: our standard form, and nerfstudio's."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.cameras.conventions import opengl_to_opencv
from gen3r.data.readers.base import (
    DepthFiles,
    Lens,
    PictureFiles,
    PointFile,
    Reader,
    folders_with,
    make_cameras,
    picture_size,
    text_lines,
)
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.clouds import read_ply

LENSES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")


class Standard(Reader):
    """The form that training reads and `gen3r data convert` writes; the published Gen3R reads it too.

    Tree: <scene>/transforms.json, <scene>/images/frame00000.png ..., <scene>/captions.txt (one a line, optional),
    <scene>/depth/frame00000.png (16 bits, optional), <scene>/points.ply (optional). Poses: transform_matrix,
    camera-to-world, OpenCV axes. Intrinsics: w h fl_x fl_y cx cy in pixels, in every frame. Depth: stored numbers over
    the frame's depth_per_unit, 0 unknown; metres where "metric" is true. Points: in the world of the poses.

    Licence: that of the dataset it was made from.
    """

    name = "standard"
    licence = "that of the dataset it was made from"
    layout = "<scene>/transforms.json"
    opengl = False
    metric = False  # where the file does not say
    by_name = False  # frames in the order of their names, not of the file

    def find_scenes(self) -> Iterator[str]:
        """Folders with a transforms.json, at any depth; the root itself counts."""
        for folder in folders_with(self.root, "transforms.json"):
            yield folder.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        data = load_transforms(folder / "transforms.json")
        if self.by_name:
            data["frames"].sort(key=lambda frame: str(frame["file_path"]))
        paths = [self.picture(folder, str(frame["file_path"])) for frame in data["frames"]]
        height, width = picture_size(paths[0])
        T, K = poses_and_intrinsics(data, folder, (height, width))
        if self.opengl:
            T = opengl_to_opencv(torch.from_numpy(T)).numpy()
        model = str(data.get("camera_model", "OPENCV"))
        if model not in LENSES:
            raise InputError(f"{folder}: the camera model {model} is not supported; undistort to {', '.join(LENSES)}")
        distortion = tuple(float(data.get(k, 0)) for k in ("k1", "k2", "p1", "p2", "k3"))
        lens = Lens(tuple(K[0]), distortion) if any(distortion) else None
        captions = folder / "captions.txt"
        lines = tuple(x.strip() for x in text_lines(captions) if x.strip()) if captions.exists() else ()
        return ClipRecord(
            str(data.get("dataset", self.name)), scene, make_cameras(T, K, (height, width)), PictureFiles(paths, lens),
            self.depth(folder, paths, data), bool(data.get("metric", self.metric)), lines,
            self.points(folder, data, T[0]),
        )  # fmt: skip

    def recognises(self) -> bool:
        """The standard form has the lens in every frame, nowhere else, and names its pictures."""
        data = load_transforms(self.root / next(iter(self.find_scenes())) / "transforms.json")
        return "fl_x" in data["frames"][0] and not {"fl_x", "camera_angle_x", "camera_model"} & set(data)

    def picture(self, folder: Path, file_path: str) -> Path:
        """The picture that an entry means: only its base name counts (SPEC, section 7)."""
        return folder / "images" / Path(file_path).name

    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        """The depth maps, if the scene has any."""
        stored = [{**data, **frame}.get("depth_per_unit", 0) for frame in data["frames"]]
        if not all(stored):
            return None
        paths = [folder / "depth" / f"{p.stem}.png" for p in pictures]
        return DepthFiles(paths, [float(x) for x in stored], math.inf)

    def points(self, folder: Path, data: dict[str, Any], T_world_camera: np.ndarray) -> PointFile | None:
        """The point cloud, if the scene has one, in the world of the poses."""
        path = folder / "points.ply"
        return PointFile(read_ply, path, T_world_camera) if path.is_file() else None


class Nerfstudio(Standard):
    """nerfstudio's transforms.json (also instant-ngp's, Polycam's and Record3D's).

    Tree: <scene>/transforms.json and the pictures at their file_path. Poses: camera-to-world, OpenGL axes. Intrinsics
    in pixels or camera_angle_x, of the whole scene or of a frame; lens distortion k1 k2 p1 p2 k3 is undone. Depth:
    depth_file_path in every frame, 16-bit millimetres. Points: ply_file_path, in the world of the poses.

    Licence: that of the pictures.
    """

    name = "nerfstudio"
    licence = "that of the pictures"
    opengl = True

    def recognises(self) -> bool:
        return True

    def picture(self, folder: Path, file_path: str) -> Path:
        path = folder / file_path
        return path if path.suffix else path.with_suffix(".png")

    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        names = [frame.get("depth_file_path") for frame in data["frames"]]
        return DepthFiles([folder / str(n) for n in names], 1000.0, math.inf) if all(names) else None

    def points(self, folder: Path, data: dict[str, Any], T_world_camera: np.ndarray) -> PointFile | None:
        path = folder / str(data.get("ply_file_path", ""))
        return PointFile(read_ply, path, T_world_camera) if path.is_file() else None


def load_transforms(path: Path) -> dict[str, Any]:
    """A transforms.json with at least one frame, every one with a file_path and a 4 x 4 transform_matrix."""
    try:
        data = json.loads("\n".join(text_lines(path)))
        shapes = {np.asarray(f["transform_matrix"], float).shape for f in data["frames"] if f["file_path"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no whole transforms.json ({error!r}); export it again") from error
    if shapes != {(4, 4)}:
        raise InputError(f"{path} has no frames, or one whose transform_matrix is not 4 x 4")
    return data


def poses_and_intrinsics(data: dict[str, Any], where: object, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Poses [F, 4, 4] as written, and fx fy cx cy [F, 4] scaled from the written picture size to `size`."""
    height, width = size
    rows = []
    try:
        for frame in data["frames"]:
            values = {**data, **frame}
            w, h = float(values.get("w", width)), float(values.get("h", height))
            fx = float(values["fl_x"]) if "fl_x" in values else w / 2 / math.tan(float(values["camera_angle_x"]) / 2)
            row = fx, float(values.get("fl_y", fx)), float(values.get("cx", w / 2)), float(values.get("cy", h / 2))
            rows.append(np.array(row) * [width / w, height / h, width / w, height / h])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{where}: transforms.json lacks or misstates {error}") from error
    return np.array([f["transform_matrix"] for f in data["frames"]], float), np.stack(rows)
