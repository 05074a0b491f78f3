"""Common Objects in 3D, second version."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.conventions import pytorch3d_to_opencv
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import PictureFiles, PointFile, keep_known, read_depth_values, read_values
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.clouds import read_ply

ABSURD = 1e5  # translations beyond are failures of the reconstruction


class Co3D(Reader):
    """Co3Dv2 (Reizenstein et al., 2021).

    Tree: <category>/{frame_annotations.jgz, sequence_annotations.jgz, <sequence>/images/frame000001.jpg,
    <sequence>/depths/frame000001.jpg.geometric.png, <sequence>/depth_masks/frame000001.png,
    <sequence>/pointcloud.ply}. Poses: PyTorch3D's (x_camera = x_world R + T; x left, y up, z forward). Intrinsics:
    normalised, either way that the annotation names. Depth: 16-bit images whose bits are float16, times
    scale_adjustment; 0 where unknown or, if the masks are there, not trusted. Points: the sequence's cloud, in the
    world of the poses. Unit: COLMAP's, another one each sequence. Frames in the order of names.

    Licence: CC BY-NC 4.0.
    """

    name = "co3d"
    licence = "CC BY-NC 4.0"
    layout = "<category>/frame_annotations.jgz"

    def find_scenes(self) -> Iterator[str]:
        """Sequences whose images are there."""
        for path in self.root.glob("*/frame_annotations.jgz"):
            with self.tolerant():
                for sequence in _annotations(path):
                    if (path.parent / sequence / "images").is_dir():
                        yield f"{path.parent.name}/{sequence}"

    def read_scene(self, scene: str) -> ClipRecord:
        category, sequence = self.name_parts(scene, 2)
        path = self.root / category / "frame_annotations.jgz"
        if sequence not in _annotations(path):
            raise self.unknown(scene)
        try:
            frames = sorted(_annotations(path)[sequence], key=lambda f: f["image"]["path"])
            sizes = {tuple(f["image"]["size"]) for f in frames}
            R = torch.tensor([f["viewpoint"]["R"] for f in frames], dtype=torch.float64)
            T = torch.tensor([f["viewpoint"]["T"] for f in frames], dtype=torch.float64)
            K = np.stack([_intrinsics(f["viewpoint"], *f["image"]["size"]) for f in frames])
            pictures = [self.root / f["image"]["path"] for f in frames]
            depths = [self._depth_file(d) for f in frames if (d := f.get("depth"))]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: {sequence} lacks or misstates {error}; download it again") from error
        if len(sizes) > 1:
            raise InputError(f"{path}: the images of {sequence} have {len(sizes)} sizes; leave it out")
        if not bool(T.abs().max() < ABSURD):
            raise InputError(f"{path}: {sequence} has cameras at absurd places; leave it out")
        height, width = sizes.pop()
        poses = pytorch3d_to_opencv(R, T).numpy()
        cameras = make_cameras(poses, K, (height, width))
        read_depth = Float16Depth(depths) if len(depths) == len(frames) else None
        cloud = self.root / scene / "pointcloud.ply"
        read_points = PointFile(read_ply, cloud, poses[0]) if cloud.is_file() else None
        return ClipRecord(self.name, scene, cameras, PictureFiles(pictures), read_depth, read_points=read_points)

    def _depth_file(self, depth: dict[str, Any]) -> tuple[Path, float, Path | None]:
        mask = depth.get("mask_path")
        return self.root / depth["path"], float(depth["scale_adjustment"]), self.root / mask if mask else None


@lru_cache(maxsize=4)
def _annotations(path: Path) -> dict[str, list[dict[str, Any]]]:
    """A category's frames by sequence. A category holds 10^5 frames, so the last few categories stay in memory."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            frames = json.load(file)
        found = defaultdict(list)
        for frame in frames:
            found[frame["sequence_name"]].append(frame)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error!r}); download it again") from error
    return dict(found)


def _intrinsics(viewpoint: dict[str, Any], height: int, width: int) -> np.ndarray:
    """fx, fy, cx, cy in pixels."""
    focal, principal = np.array(viewpoint["focal_length"]), np.array(viewpoint["principal_point"])
    half = {"ndc_isotropic": np.full(2, min(height, width) / 2), "ndc_norm_image_bounds": np.array([width, height]) / 2}
    scale = half[viewpoint.get("intrinsics_format", "ndc_norm_image_bounds")]
    return np.concatenate([focal * scale, np.array([width, height]) / 2 - principal * scale])


@dataclass(frozen=True)
class Float16Depth:
    """Depth whose float16 bits are stored as 16-bit integers; files with their scale adjustments and masks."""

    files: Sequence[tuple[Path, float, Path | None]]

    def __call__(self, number: int) -> torch.Tensor:
        path, scale, mask = self.files[number]
        pixels = read_depth_values(path)
        depth = keep_known(pixels.astype(np.uint16).view(np.float16).astype(np.float32) * scale, np.inf)
        if mask is not None and mask.is_file():
            depth[torch.from_numpy(read_values(mask) == 0)] = 0
        return depth
