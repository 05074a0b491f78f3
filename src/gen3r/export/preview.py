"""preview.png: a contact sheet of frames, depth, and the point cloud from two directions."""

import math

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.export.cloud_view import View, frame_view, render
from gen3r.export.selection import Selection
from gen3r.geometry.clouds import PointCloud
from gen3r.media.drawing import (
    CLOUD_BACKGROUND,
    GAP,
    SUPERSAMPLE,
    WIDTH,
    apply_colour_map,
    colour_depth,
    labelled,
    side_by_side,
    stacked,
    strip,
)  # fmt: skip
from gen3r.media.images import evenly_spaced

CLOUD_HEIGHT = 440
LARGE = 300  # pixels of width from which on frames are shown two in a row; else, and upright ones, four
FRUSTA, FRUSTUM_DEPTH = 6, 0.12  # number of frusta, and their depth in the median distance of the points
SIDE, ABOVE = (math.radians(35), math.radians(20)), (0.0, math.radians(65))  # azimuth and elevation of the viewer
HEADROOM = 0.2  # in the same unit: how far above the cameras the view from above cuts the scene


def contact_sheet(selection: Selection) -> Image.Image:
    """The first, middle and last frame, the depth of the last, and the exported points with the cameras' path, from
    the left and from above."""
    scene = selection.scene
    count, (height, width) = len(scene.frames), scene.frames.shape[1:3]
    columns = 2 if width >= max(height, LARGE) else 4
    chosen = evenly_spaced(count, min(3, count))
    shown = [(f"frame {i + 1} of {count}", scene.frames[i]) for i in chosen]
    shown.append((f"depth of frame {count} (near is bright)", colour_depth(scene.depth[-1:], scene.mask[-1:])[0]))
    pictures = [labelled(text, strip(picture[None], columns)) for text, picture in shown]
    cloud = selection.cloud()
    highest = scene.cameras.centres[:, 1].min() - HEADROOM * _median_distance(cloud)
    views = [
        labelled("points from the left", _cloud_image(cloud, scene.cameras, *SIDE)),
        labelled(
            "points from above, cut over the cameras",
            _cloud_image(cloud[cloud.points[:, 1] > highest], scene.cameras, *ABOVE),
        ),
    ]
    rows = [side_by_side(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    return stacked([*rows, side_by_side(views)])


def _median_distance(cloud: PointCloud) -> float:
    """From the first camera; 0 without points."""
    return float(cloud.points.norm(dim=-1).median()) if len(cloud) else 0.0


def _cloud_image(cloud: PointCloud, cameras: Cameras, azimuth: float, elevation: float) -> Image.Image:
    """The point cloud with the cameras' path, drawn large and reduced for smooth edges."""
    width, height = (WIDTH - 3 * GAP) // 2, CLOUD_HEIGHT
    if len(cloud) == 0:
        return Image.new("RGB", (width, height), CLOUD_BACKGROUND)
    large = (height * SUPERSAMPLE, width * SUPERSAMPLE)
    view = frame_view(cloud.points, cameras.centres, azimuth, elevation, *large)
    image = Image.fromarray(render(cloud, view, CLOUD_BACKGROUND).numpy())
    _draw_cameras(ImageDraw.Draw(image), cameras, view, FRUSTUM_DEPTH * _median_distance(cloud))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _draw_cameras(draw: ImageDraw.ImageDraw, cameras: Cameras, view: View, depth: float) -> None:
    """The path of the cameras and some of their frusta, from dark at the start to bright at the end."""
    colours = [tuple(c) for c in apply_colour_map(torch.linspace(0.45, 1, len(cameras))).tolist()]
    centres, _ = view.project(cameras.centres)
    for i in range(len(cameras) - 1):
        draw.line([*centres[i].tolist(), *centres[i + 1].tolist()], fill=colours[i], width=2 * SUPERSAMPLE)
    for i in evenly_spaced(len(cameras), min(FRUSTA, len(cameras))):
        apex, *corners = (tuple(p) for p in view.project(_frustum(cameras, i, depth))[0].tolist())
        for corner, after in zip(corners, [*corners[1:], corners[0]], strict=True):
            draw.line([apex, corner], fill=colours[i], width=SUPERSAMPLE)
            draw.line([corner, after], fill=colours[i], width=SUPERSAMPLE)


def _frustum(cameras: Cameras, i: int, depth: float) -> Tensor:
    """A camera's centre and the four corners of its image at a depth, in the world [5, 3]."""
    w, h = float(cameras.width), float(cameras.height)
    corners = torch.tensor([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]])
    local = torch.cat([torch.zeros(1, 3), depth * corners @ torch.linalg.inv(cameras.K_px[i]).T])
    T = cameras.T_world_camera[i]
    return local @ T[:3, :3].T + T[:3, 3]
