"""A small scene with known contents."""

import math

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.export.options import ExportOptions
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.scene import Scene

EVERYTHING = ExportOptions(unsure=0, edges=0, grazing=0, sky=0, voxel=0, outliers=0, max_points=10**9)


def make_scene(frames: int = 5, height: int = 32, width: int = 48) -> Scene:
    """A slanted wall with a nearer square, seen by a camera that moves right."""
    T = torch.eye(4).repeat(frames, 1, 1)
    T[:, 0, 3] = torch.linspace(0, 0.2, frames)
    cameras = Cameras.from_fov(T, math.radians(60), height, width)
    depth = torch.linspace(1, 2, width).expand(frames, height, width).clone()
    depth[:, 8:16, 8:16] = 0.5
    shade = torch.linspace(0, 255, width).to(torch.uint8)
    colours = torch.stack([shade, shade.flip(0), torch.full_like(shade, 90)], -1)
    pictures = colours.expand(frames, height, width, 3).clone()
    pictures[:, 8:16, 8:16] = torch.tensor([250, 30, 20], dtype=torch.uint8)
    points = unproject(depth, cameras.T_world_camera, cameras.K_px)
    settings = {"task": "one view", "frames": frames}
    mask = valid_depth_mask(depth)
    return Scene(pictures, depth, torch.full_like(depth, 2), points, mask, cameras, "a wall · стена", settings)


@pytest.fixture
def scene() -> Scene:
    return make_scene()
