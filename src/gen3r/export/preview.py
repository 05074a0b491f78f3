"""preview.png: a contact sheet of the frames, their depth, and the point cloud from two sides."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.export.splatting import PointCloud, View, frame_view, point_cloud, render
from gen3r.files import whole_file
from gen3r.media.drawing import (
    CLOUD_BACKGROUND,
    GAP,
    SUPERSAMPLE,
    THUMBNAILS,
    WIDTH,
    apply_colour_map,
    colour_depth,
    labelled,
    side_by_side,
    stacked,
    strip,
)
from gen3r.scene import Scene

CLOUD_HEIGHT = 440
FRUSTA, FRUSTUM_DEPTH = 6, 0.12  # how many, and how deep in the points' median distance
# Azimuth and elevation of the viewer.
SIDE, ABOVE = (math.radians(35), math.radians(20)), (0.0, math.radians(65))
SKY = 3.0  # in the points' median distance: what lies farther would make all the rest a speck
HEADROOM = 0.2  # of the points' median distance: what is left standing over the cameras in the view from above


def write_preview(scene: Scene, path: Path) -> None:
    """Writes the contact sheet."""
    with whole_file(path) as partial:
        contact_sheet(scene).save(partial)


def contact_sheet(scene: Scene) -> Image.Image:
    """Row 1: frames. Row 2: depth. Row 3: the point cloud with the cameras' path, from the left and from above."""
    chosen = np.unique(np.linspace(0, len(scene.frames) - 1, THUMBNAILS).round().astype(int)).tolist()
    numbers = ", ".join(str(i + 1) for i in chosen)
    depth = colour_depth(scene.depth, scene.mask)[chosen]
    cloud = _without_sky(point_cloud(scene))
    lower = _without_ceiling(cloud, scene.cameras)
    views = [
        labelled("points from the left", _cloud_picture(cloud, scene.cameras, *SIDE)),
        labelled("points from above, cut over the cameras", _cloud_picture(lower, scene.cameras, *ABOVE)),
    ]
    return stacked(
        [
            labelled(f"frames {numbers} of {len(scene.frames)}", strip(scene.frames[chosen])),
            labelled("depth (near is bright)", strip(depth)),
            side_by_side(views),
        ]
    )


def _without_sky(cloud: PointCloud) -> PointCloud:
    """The points that are not far beyond the others."""
    distance = cloud.points.norm(dim=-1)
    return cloud[distance < SKY * distance.median()] if len(distance) else cloud


def _without_ceiling(cloud: PointCloud, cameras: Cameras) -> PointCloud:
    """The points that do not hide a room from a viewer above it."""
    if len(cloud.points) == 0:
        return cloud
    highest = cameras.centres[:, 1].min() - HEADROOM * cloud.points.norm(dim=-1).median()
    return cloud[cloud.points[:, 1] > highest]


def _cloud_picture(cloud: PointCloud, cameras: Cameras, azimuth: float, elevation: float) -> Image.Image:
    """The point cloud with the cameras' path, drawn large and shrunk for smooth edges."""
    width, height = (WIDTH - 3 * GAP) // 2, CLOUD_HEIGHT
    if len(cloud.points) == 0:
        return Image.new("RGB", (width, height), CLOUD_BACKGROUND)
    large = (height * SUPERSAMPLE, width * SUPERSAMPLE)
    view = frame_view(cloud.points, cameras.centres, azimuth, elevation, *large)
    picture = Image.fromarray(render(cloud, view, CLOUD_BACKGROUND).numpy())
    depth = FRUSTUM_DEPTH * float(cloud.points.norm(dim=-1).median())
    _draw_cameras(ImageDraw.Draw(picture), cameras, view, depth)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _draw_cameras(draw: ImageDraw.ImageDraw, cameras: Cameras, view: View, depth: float) -> None:
    """The path of the cameras and some of their frusta, from dark at the start to bright at the end."""
    colours = [tuple(c) for c in apply_colour_map(torch.linspace(0.45, 1, len(cameras))).tolist()]
    centres, _ = view.project(cameras.centres)
    for i in range(len(cameras) - 1):
        draw.line([*centres[i].tolist(), *centres[i + 1].tolist()], fill=colours[i], width=2 * SUPERSAMPLE)
    for i in np.unique(np.linspace(0, len(cameras) - 1, FRUSTA).round().astype(int)).tolist():
        apex, *corners = (tuple(p) for p in view.project(_frustum(cameras, i, depth))[0].tolist())
        for corner, after in zip(corners, [*corners[1:], corners[0]], strict=True):
            draw.line([apex, corner], fill=colours[i], width=SUPERSAMPLE)
            draw.line([corner, after], fill=colours[i], width=SUPERSAMPLE)


def _frustum(cameras: Cameras, i: int, depth: float) -> Tensor:
    """A camera's centre and the four corners of its picture at a depth, in the world [5, 3]."""
    w, h = float(cameras.width), float(cameras.height)
    corners = torch.tensor([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]])
    local = torch.cat([torch.zeros(1, 3), depth * corners @ torch.linalg.inv(cameras.K_px[i]).T])
    T = cameras.T_world_camera[i]
    return local @ T[:3, :3].T + T[:3, 3]
