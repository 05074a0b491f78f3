"""The standard form: what every dataset can be converted to, scene by scene, by many processes, resumably."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from gen3r.data.readers.base import Reader
from gen3r.data.records import ClipRecord
from gen3r.data.workers import in_parallel
from gen3r.errors import InputError
from gen3r.files import whole_folder
from gen3r.geometry.clouds import write_ply

PictureForm = Literal["png", "jpg"]
JPEG_QUALITY = 95
TOP = 65535  # of a 16-bit picture
FEWEST = 2  # frames of a scene
POINTS = "points.ply"


@dataclass(frozen=True)
class Converted:
    """scene: its name in the dataset. written, left_out: frames. there: it was converted before. error: why nothing
    was written, if so."""

    scene: str
    written: int = 0
    left_out: int = 0
    there: bool = False
    error: str = ""


def folder_name(scene: str) -> str:
    """The folder of a scene: its name with the slashes gone."""
    return scene.replace("/", "__") if scene != "." else "scene"


def convert(
    reader: Reader,
    scenes: Sequence[str],
    folder: Path,
    form: PictureForm = "png",
    with_depth: bool = True,
    workers: int = 1,
    strict: bool = False,
) -> Iterator[Converted]:
    """Writes scenes into `folder`, each whole or not at all; those that are there are kept.

    Frames that cannot be read, or whose depth cannot, are left out; a scene with fewer than two left, or that cannot
    be read at all, is skipped. `strict` raises instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(_convert_scene, reader, folder, form, with_depth, strict)
    yield from in_parallel(work, scenes, workers)


def _convert_scene(
    reader: Reader, folder: Path, form: PictureForm, with_depth: bool, strict: bool, scene: str
) -> Converted:
    whole = folder / folder_name(scene)
    if (whole / "transforms.json").exists():
        return Converted(scene, there=True)
    try:
        with whole_folder(whole) as partial:
            counts = write_scene(reader.read(scene), partial, reader.licence, form, with_depth, strict)
        return Converted(scene, *counts)
    except InputError as error:
        if strict:
            raise
        return Converted(scene, error=str(error))


def write_scene(
    record: ClipRecord,
    folder: Path,
    licence: str = "",
    form: PictureForm = "png",
    with_depth: bool = True,
    strict: bool = False,
) -> tuple[int, int]:
    """Writes a sequence as images/, depth/, points.ply, transforms.json and captions.txt; returns the frames written
    and left out.

    Raises:
        InputError: fewer than two frames can be read, or any cannot and `strict`; the points cannot be read.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames, failures = [], []
    for number in range(len(record)):
        try:
            frames.append(_write_frame(record, number, len(frames), folder, form, with_depth))
        except InputError as error:
            if strict:
                raise
            failures.append(str(error))
    if len(frames) < FEWEST:
        raise InputError(f"only {len(frames)} of {len(record)} frames can be read ({failures[:1]})")
    about = {
        "dataset": record.dataset, "scene": record.scene, "licence": licence, "metric": record.metric,
        "convention": "camera-to-world, OpenCV axes, intrinsics in pixels",
    }  # fmt: skip
    if record.read_points is not None:
        write_ply(record.read_points(), folder / POINTS)
    (folder / "captions.txt").write_text("\n".join(record.captions) + "\n", encoding="utf-8")
    (folder / "transforms.json").write_text(json.dumps({**about, "frames": frames}), encoding="utf-8")
    return len(frames), len(failures)


def _write_frame(
    record: ClipRecord, number: int, place: int, folder: Path, form: PictureForm, with_depth: bool
) -> dict[str, Any]:
    """Writes one frame and returns its entry in transforms.json."""
    pixels = record.read_frame(number).numpy()
    depth = record.read_depth(number).numpy() if with_depth and record.read_depth else None
    if pixels.shape[:2] != (record.cameras.height, record.cameras.width):
        raise InputError(f"picture {number} is {pixels.shape[0]} x {pixels.shape[1]}, unlike its camera")
    name = f"images/frame{place:05d}.{form}"
    options: dict[str, Any] = {"quality": JPEG_QUALITY, "subsampling": 0} if form == "jpg" else {"compress_level": 4}
    Image.fromarray(pixels).save(folder / name, **options)
    K = record.cameras.K_px[number].tolist()
    entry = {
        "file_path": name, "w": record.cameras.width, "h": record.cameras.height,
        "fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2],
        "transform_matrix": record.cameras.T_world_camera[number].tolist(),
    }  # fmt: skip
    if depth is not None:
        entry["depth_per_unit"] = _write_depth(depth, folder / "depth" / f"frame{place:05d}.png")
    return entry


def _write_depth(depth: np.ndarray, path: Path) -> float:
    """Depth in 16 bits, as fine as the farthest pixel of the frame allows; returns the stored numbers a unit."""
    path.parent.mkdir(exist_ok=True)
    farthest = float(depth.max())
    per_unit = TOP / farthest if farthest > 0 else 1.0
    stored = np.round(depth.astype(np.float64) * per_unit)
    stored = np.where(depth > 0, stored.clip(1, TOP), 0).astype(np.uint16)
    Image.fromarray(stored).save(path, compress_level=4)
    return per_unit
