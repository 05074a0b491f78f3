"""Scenes without motion, texture, depth or size leave in every format, finite."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import read_cameras
from gen3r.export.formats import FORMATS
from gen3r.export.save import save_scene
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.scene import Scene

SCENES = {"still and black": (2, 16, 16, 1.0), "one frame": (1, 16, 16, 1.0), "one pixel": (2, 1, 1, 1.0),
          "a strip": (2, 1, 40, 1.0), "no depth": (2, 16, 16, 0.0)}  # fmt: skip
AVAILABLE = [n for n, f in FORMATS.items() if not f.package or importlib.util.find_spec(f.package) is not None]


@pytest.mark.parametrize("kind", SCENES)
def test_every_format(kind: str, tmp_path: Path) -> None:
    frames, height, width, distance = SCENES[kind]
    cameras = Cameras.from_fov(torch.eye(4).repeat(frames, 1, 1), math.radians(60), height, width)
    depth = torch.full((frames, height, width), distance)
    points, black = unproject(depth, cameras.T_world_camera, cameras.K_px), torch.zeros(frames, height, width, 3)
    scene = Scene(
        black.to(torch.uint8), depth, torch.ones_like(depth), points, valid_depth_mask(depth), cameras, "", {}
    )
    save_scene(scene, tmp_path / "out", exports=AVAILABLE)
    assert len(read_cameras(tmp_path / "out" / "cameras.json")) == frames
