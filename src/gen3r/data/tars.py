"""The standard form in tar shards for streaming, with webdataset. Needs the extra gen3r[data]."""

import json
import math
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.data.readers.base import Reader, inverse, keep_known, make_cameras, read_pixels
from gen3r.data.readers.transforms import poses_and_intrinsics
from gen3r.data.records import ClipRecord
from gen3r.data.standard import POINTS, Converted, PictureForm, folder_name, write_scene
from gen3r.data.workers import in_parallel
from gen3r.errors import InputError
from gen3r.geometry.clouds import PointCloud, read_ply

SCENES_PER_SHARD = 16


def webdataset() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import webdataset
    except ModuleNotFoundError as error:
        raise InputError("tar shards need an extra: pip install 'gen3r[data]'") from error
    return webdataset


def convert_to_tars(
    reader: Reader,
    scenes: Sequence[str],
    folder: Path,
    form: PictureForm = "jpg",
    with_depth: bool = True,
    workers: int = 1,
    strict: bool = False,
) -> Iterator[Converted]:
    """As `standard.convert`, into shards of 16 scenes (scenes-000000.tar, ...), each whole or not at all.

    Beside each shard a list of its scenes (scenes-000000.json); one of other scenes is never taken for this one.
    """
    webdataset()
    folder.mkdir(parents=True, exist_ok=True)
    parts = [(k, list(scenes[k : k + SCENES_PER_SHARD])) for k in range(0, len(scenes), SCENES_PER_SHARD)]
    work = partial(_write_shard, reader, folder, form, with_depth, strict)
    for results in in_parallel(work, parts, workers):
        yield from results


def _write_shard(
    reader: Reader, folder: Path, form: PictureForm, with_depth: bool, strict: bool, part: tuple[int, list[str]]
) -> list[Converted]:
    start, scenes = part
    path = folder / f"scenes-{start // SCENES_PER_SHARD:06d}.tar"
    listed = path.with_suffix(".json")
    if path.exists():
        if not listed.exists() or json.loads(listed.read_text()) != scenes:
            raise InputError(f"{path} holds other scenes; choose another folder")
        return [Converted(scene, there=True) for scene in scenes]
    results, partial_path = [], path.with_suffix(".partial")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as place:
        with webdataset().TarWriter(str(partial_path), encoder=False) as tar:
            for scene in scenes:
                try:
                    counts = write_scene(
                        reader.read(scene), Path(place) / "scene", reader.licence, form, with_depth, strict
                    )
                    tar.write(_sample(scene, Path(place) / "scene"))
                    results.append(Converted(scene, *counts))
                except InputError as error:
                    if strict:
                        raise
                    results.append(Converted(scene, error=str(error)))
                shutil.rmtree(Path(place) / "scene", ignore_errors=True)
        listed.write_text(json.dumps(scenes))
        partial_path.rename(path)
    return results


def _sample(scene: str, folder: Path) -> dict[str, Any]:
    """A written scene by webdataset's names: transforms.json, captions.txt, frame00000.jpg, depth00000.png, ..."""
    sample: dict[str, Any] = {"__key__": folder_name(scene).replace(".", "_")}
    for name in ("transforms.json", "captions.txt"):
        sample[name] = (folder / name).read_bytes()
    if (folder / POINTS).exists():
        sample[POINTS] = (folder / POINTS).read_bytes()
    for path in sorted((folder / "images").iterdir()):
        sample[path.name] = path.read_bytes()
    for path in sorted((folder / "depth").glob("*.png")):
        sample[path.name.replace("frame", "depth")] = path.read_bytes()
    return sample


def read_tars(urls: str | Sequence[str], strict: bool = False) -> Iterator[ClipRecord]:
    """The scenes of shards, in order; urls as webdataset takes them, such as "scenes-{000000..000009}.tar".

    For many ranks and workers: webdataset.WebDataset(urls, ...).map(record_from_sample).

    Raises:
        InputError: webdataset is not installed; a scene or shard is damaged and `strict` (else it is left out, with a
            warning that counts).
    """
    wds, skipped = webdataset(), 0
    for url in wds.shardlists.expand_urls(urls):
        try:
            with wds.gopen(url) as stream:
                files = ({**file, "__url__": url} for file in wds.tariterators.tar_file_iterator(stream))
                for sample in wds.tariterators.group_by_keys(files):
                    try:
                        yield record_from_sample(sample)
                    except InputError as error:
                        if strict:
                            raise
                        skipped += 1
                        warnings.warn(f"{skipped} scenes of shards skipped so far; {error}", stacklevel=2)
        except (tarfile.TarError, OSError) as error:
            if strict:
                raise InputError(f"the shard {url} cannot be read ({error}); convert it again") from error
            skipped += 1
            warnings.warn(f"{skipped} scenes of shards skipped so far; the rest of {url}: {error}", stacklevel=2)


def record_from_sample(sample: dict[str, Any]) -> ClipRecord:
    """One scene of a shard."""
    key = str(sample["__key__"])
    try:
        data = json.loads(sample["transforms.json"])
        pictures = [sample[Path(frame["file_path"]).name] for frame in data["frames"]]
        depth_names = [Path(f["file_path"]).stem.replace("frame", "depth") + ".png" for f in data["frames"]]
        depths = [sample[name] for name in depth_names] if depth_names[0] in sample else None
        scales = [float(f["depth_per_unit"]) for f in data["frames"]] if depths else []
        captions = tuple(x for x in sample["captions.txt"].decode().splitlines() if x)
        size = (int(data["frames"][0]["h"]), int(data["frames"][0]["w"]))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"the scene {key} of a shard lacks or misstates {error}; convert it again") from error
    poses, intrinsics = poses_and_intrinsics(data, key, size)
    return ClipRecord(
        str(data["dataset"]), str(data["scene"]), make_cameras(poses, intrinsics, size), PictureBytes(pictures, key),
        DepthBytes(depths, scales, key) if depths else None, bool(data["metric"]), captions,
        PointBytes(sample[POINTS], poses[0]) if POINTS in sample else None,
    )  # fmt: skip


@dataclass(frozen=True)
class PictureBytes:
    """Encoded pictures in memory: number -> uint8 [H, W, 3]."""

    files: Sequence[bytes]
    name: str

    def __call__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(read_pixels(self.files[number], f"picture {number} of {self.name}"))


@dataclass(frozen=True)
class DepthBytes:
    """Encoded depth in memory: number -> float32 [H, W]."""

    files: Sequence[bytes]
    per_unit: Sequence[float]
    name: str

    def __call__(self, number: int) -> torch.Tensor:
        pixels = read_pixels(self.files[number], f"depth {number} of {self.name}")
        return keep_known(pixels.astype(np.float32) / self.per_unit[number], math.inf)


@dataclass(frozen=True)
class PointBytes:
    """A PLY file in memory; its points seen from the first camera, whose pose in the file's world is given."""

    file: bytes
    T_world_camera: np.ndarray

    def __call__(self) -> PointCloud:
        return read_ply(self.file).moved(torch.from_numpy(inverse(self.T_world_camera, "the scene")))
