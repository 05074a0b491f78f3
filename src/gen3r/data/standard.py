"""The standard form, to which every dataset can be converted: its reader and its writer."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import DepthFiles
from gen3r.data.readers.pictures import find_pictures
from gen3r.data.readers.transforms import CAPTIONS, TRANSFORMS, TransformsReader, load_transforms
from gen3r.data.records import ClipRecord
from gen3r.data.workers import SceneResult, in_parallel
from gen3r.errors import InputError
from gen3r.files import exclusive_folder, whole_folder
from gen3r.geometry.clouds import write_ply
from gen3r.media.images import depth_per_unit, write_depth

IMAGES, DEPTH, POINTS = "images", "depth", "points.ply"
ImageFormat = Literal["png", "jpg"]
SAVE_OPTIONS = {"png": {"compress_level": 4}, "jpg": {"quality": 95, "subsampling": 0}}
MIN_FRAMES = 2


class Standard(TransformsReader):
    """The form that training reads and `gen3r data convert` writes; the published Gen3R reads it too.

    Tree: <scene>/transforms.json, <scene>/images/frame00000.png ..., <scene>/captions.txt (one per line, optional),
    <scene>/depth/frame00000.png (16 bits, optional), <scene>/points.ply (optional). Poses: transform_matrix,
    camera-to-world, OpenCV axes. Intrinsics: w h fl_x fl_y cx cy in pixels, in every frame. Depth: stored numbers over
    the frame's depth_per_unit, 0 unknown; metres where "metric" is true. Points: in the world of the poses.

    Licence: that of the dataset it was made from.
    """

    name = "standard"
    licence = "that of the dataset it was made from"
    layout = "<scene>/transforms.json"

    def recognises(self) -> bool:
        """The standard form has the lens in every frame and nowhere else."""
        data = load_transforms(self.root / next(iter(self.find_scenes())) / TRANSFORMS)
        return "fl_x" in data["frames"][0] and not {"fl_x", "camera_angle_x", "camera_model"} & set(data)

    def pictures(self, folder: Path, names: list[str]) -> list[Path | None]:
        """Only the base name of an entry counts, as in the published implementation."""
        return find_pictures([folder / IMAGES], [re.split(r"[/\\\\]", name)[-1] for name in names])

    def depth(self, folder: Path, pictures: list[Path], data: dict[str, Any]) -> DepthFiles | None:
        stored = [float({**data, **frame}.get("depth_per_unit", 0)) for frame in data["frames"]]
        if not all(stored):
            return None
        return DepthFiles([folder / DEPTH / f"{p.stem}.png" for p in pictures], stored, math.inf)

    def points(self, folder: Path, data: dict[str, Any]) -> Path:
        return folder / POINTS


@dataclass(frozen=True, kw_only=True)
class Converted(SceneResult):
    """written, left_out: counts of frames."""

    written: int = 0
    left_out: int = 0


def folder_name(scene: str, root: Path) -> str:
    """The folder of a scene of the dataset at `root`: its name without slashes; of the root itself, the root's."""
    return scene.replace("/", "__") if scene != "." else root.resolve().name or "scene"


def convert(
    reader: Reader,
    scenes: Sequence[str],
    folder: Path,
    image_format: ImageFormat = "png",
    with_depth: bool = True,
    workers: int = 1,
    strict: bool = False,
) -> Iterator[Converted]:
    """Writes scenes into `folder`, each whole or not at all; scenes that are there are kept.

    Frames that cannot be read, or whose depth cannot, are left out; a scene with fewer than two left, or that cannot
    be read at all, is skipped. `strict` raises instead.
    """
    work = partial(_convert_scene, reader, folder, image_format, with_depth, strict)
    with exclusive_folder(folder):
        yield from in_parallel(work, scenes, workers)


def _convert_scene(
    reader: Reader, folder: Path, image_format: ImageFormat, with_depth: bool, strict: bool, scene: str
) -> Converted:
    target = folder / folder_name(scene, reader.root)
    if (target / TRANSFORMS).exists():
        return Converted(scene=scene, there=True)
    try:
        with whole_folder(target) as unfinished:
            written, left_out = write_scene(
                reader.read(scene), unfinished, reader.licence, image_format, with_depth, strict
            )
        return Converted(scene=scene, written=written, left_out=left_out)
    except InputError as error:
        if strict:
            raise
        return Converted(scene=scene, error=str(error))


def write_scene(
    record: ClipRecord,
    folder: Path,
    licence: str = "",
    image_format: ImageFormat = "png",
    with_depth: bool = True,
    strict: bool = False,
) -> tuple[int, int]:
    """Writes a sequence in the form that `Standard` reads; returns the counts of frames written and left out.

    Raises:
        InputError: fewer than two frames can be read, or any cannot and `strict`; the points cannot be read.
    """
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    frames, failures = [], []
    for number in range(len(record)):
        try:
            frames.append(_write_frame(record, number, f"frame{len(frames):05d}", folder, image_format, with_depth))
        except InputError as error:
            if strict:
                raise
            failures.append(str(error))
    if len(frames) < MIN_FRAMES:
        raise InputError(f"only {len(frames)} of {len(record)} frames can be read ({failures[:1]})")
    about = {
        "dataset": record.dataset, "scene": record.scene, "licence": licence, "metric": record.metric,
        "convention": "camera-to-world, OpenCV axes, intrinsics in pixels",
    }  # fmt: skip
    if record.read_points is not None:
        write_ply(record.read_points(), folder / POINTS)
    (folder / CAPTIONS).write_text("\n".join(record.captions) + "\n", encoding="utf-8")
    (folder / TRANSFORMS).write_text(json.dumps({**about, "frames": frames}), encoding="utf-8")
    return len(frames), len(failures) + record.left_out


def _write_frame(
    record: ClipRecord, number: int, stem: str, folder: Path, image_format: ImageFormat, with_depth: bool
) -> dict[str, Any]:
    """Writes one frame and returns its entry in transforms.json."""
    pixels = record.read_frame(number).numpy()
    depth = record.read_depth(number).numpy() if with_depth and record.read_depth else None
    cameras = record.cameras
    if pixels.shape[:2] != (cameras.height, cameras.width):
        raise InputError(f"image {number} is {pixels.shape[0]} x {pixels.shape[1]}, unlike its camera")
    name = f"{IMAGES}/{stem}.{image_format}"
    options: dict[str, Any] = SAVE_OPTIONS[image_format]
    Image.fromarray(pixels).save(folder / name, **options)
    K = cameras.K_px[number].tolist()
    entry = {
        "file_path": name, "w": cameras.width, "h": cameras.height,
        "fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2],
        "transform_matrix": cameras.T_world_camera[number].tolist(),
    }  # fmt: skip
    if depth is not None:
        (folder / DEPTH).mkdir(exist_ok=True)
        entry["depth_per_unit"] = depth_per_unit(float(depth.max()))
        write_depth(depth, folder / DEPTH / f"{stem}.png", entry["depth_per_unit"])
    return entry
