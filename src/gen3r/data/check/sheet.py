"""A contact sheet of a dataset's scenes: frames, depth, and the cameras' path from above."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gen3r.data.records import ClipRecord
from gen3r.geometry.points import unproject
from gen3r.media.drawing import (
    BACKGROUND,
    CLOUD_BACKGROUND,
    GAP,
    SUPERSAMPLE,
    apply_colour_map,
    colour_depth,
    labelled,
    side_by_side,
    stacked,
)
from gen3r.media.images import evenly_spaced

FRAMES = 5  # of each scene
PICTURE = 180  # pixels of a thumbnail's longer side
ABOVE = (180, 300)  # least and most pixels of the view from above
WEDGE = 0.06  # of that view: how long the cameras' wedges are
POINTS = 20_000


@dataclass(frozen=True)
class SceneView:
    """What is drawn of a scene: some frames [H, W, 3] and their depths [H, W], and the scene's points [N, 3]."""

    record: ClipRecord
    numbers: Sequence[int]
    frames: Sequence[Tensor]
    depth: Sequence[Tensor] | None
    points: Tensor | None

    @classmethod
    def read(cls, record: ClipRecord) -> "SceneView":
        """Evenly spaced frames of a scene.

        Raises:
            InputError: a frame, its depth or the points cannot be read.
        """
        numbers = evenly_spaced(len(record), min(FRAMES, len(record)))
        depth = [record.read_depth(n) for n in numbers] if record.read_depth else None
        points = record.read_points().points if record.read_points else None
        return cls(record, numbers, [record.read_frame(n) for n in numbers], depth, points)


def dataset_sheet(views: Sequence[SceneView]) -> Image.Image:
    """A sheet with one row per scene."""
    rows = [_row(view) for view in views]
    return stacked(rows, max(row.width for row in rows) + 2 * GAP)


def _row(view: SceneView) -> Image.Image:
    record, cameras = view.record, view.record.cameras
    title = (
        f"{record.name}: {len(cameras)} frames, {cameras.width} x {cameras.height}, "
        f"fov {float(torch.rad2deg(cameras.fov_y.median())):.0f} degrees"
    )
    strips = [side_by_side([_thumbnail(f, Image.Resampling.BICUBIC) for f in view.frames])]
    if view.depth is not None:
        depth = torch.stack([_same_size(d, view.depth[0]) for d in view.depth])
        known = depth > 0
        colours = colour_depth(depth, known)
        strips.append(side_by_side([_thumbnail(c, Image.Resampling.BOX) for c in colours]))
        values = depth[known].numpy()
        if len(values):
            low, high = np.quantile(values, [0.02, 0.98])
            title += f", depth {low:.3g} to {high:.3g}{' m' if record.metric else ''}, {known.float().mean():.0%} known"
    if view.points is not None:
        title += f", {len(view.points)} points"
    left = Image.new("RGB", (strips[0].width, sum(s.height + GAP for s in strips)), BACKGROUND)
    for i, strip in enumerate(strips):
        left.paste(strip, (0, i * (strips[0].height + GAP)))
    size = min(max(left.height - GAP, ABOVE[0]), ABOVE[1])
    above = labelled("from above, dark to bright", _from_above(view, size))
    text = labelled(title, labelled(record.captions[0][:120], left) if record.captions else left)
    return side_by_side([text, above])


def _thumbnail(pixels: Tensor, how: Image.Resampling) -> Image.Image:
    picture = Image.fromarray(pixels.numpy())
    scale = PICTURE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, how, reducing_gap=2 if how is Image.Resampling.BICUBIC else None)


def _same_size(depth: Tensor, like: Tensor) -> Tensor:
    if depth.shape == like.shape:
        return depth
    return torch.nn.functional.interpolate(depth[None, None], like.shape, mode="nearest")[0, 0]


def _from_above(view: SceneView, pixels: int) -> Image.Image:
    """The path as seen along the cameras' mean down direction, with wedges for some cameras and dots for points."""
    T = view.record.cameras.T_world_camera.double()
    down = T[:, :3, 1].mean(0)
    down = down / down.norm().clamp_min(1e-9)
    ahead = T[0, :3, 2] - (T[0, :3, 2] @ down) * down
    ahead = ahead / ahead.norm().clamp_min(1e-9)
    plane = torch.stack([torch.linalg.cross(down, ahead), -ahead])  # right of the first camera; back is down the page
    path, dots = T[:, :3, 3] @ plane.T, _points(view) @ plane.T
    centre, extent = _frame(path, dots)
    size = pixels * SUPERSAMPLE

    def on_page(places: Tensor) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in ((places - centre) / extent + 0.5) * size]

    picture = Image.new("RGB", (size, size), CLOUD_BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for x, y in on_page(dots):
        draw.point((x, y), (92, 98, 112))
    colours = [tuple(c) for c in apply_colour_map(torch.linspace(0.45, 1, len(path))).tolist()]
    page = on_page(path)
    for i in range(len(page) - 1):
        draw.line([page[i], page[i + 1]], colours[i], 2 * SUPERSAMPLE)
    half = view.record.cameras.width / 2 / view.record.cameras.K_px[:, 0, 0].double()
    for i in view.numbers:
        corners = torch.stack([-half[i], half[i]])[:, None] * T[i, :3, 0] + T[i, :3, 2]
        ends = path[i] + WEDGE * extent * corners @ plane.T
        draw.polygon([page[i], *on_page(ends)], outline=colours[i], width=SUPERSAMPLE)
    return picture.resize((pixels, pixels), Image.Resampling.LANCZOS)


def _points(view: SceneView) -> Tensor:
    """Some of the scene's points, and some of the points of the drawn depth [N, 3]."""
    found = [torch.zeros(0, 3)]
    if view.points is not None:
        found.append(view.points[:: max(1, len(view.points) // POINTS)])
    for number, depth in zip(view.numbers, view.depth or (), strict=False):
        K = view.record.cameras.K_px[number].clone()
        K[0] *= depth.shape[1] / view.record.cameras.width
        K[1] *= depth.shape[0] / view.record.cameras.height
        points = unproject(depth, view.record.cameras.T_world_camera[number], K)[depth > 0]
        found.append(points[:: max(1, len(points) * len(view.numbers) // POINTS)])
    return torch.cat(found).double()


def _frame(path: Tensor, dots: Tensor) -> tuple[Tensor, float]:
    """The centre and the width of the view: the whole path, and 90 % of the points."""
    low, high = path.amin(0), path.amax(0)
    if len(dots):
        bounds = torch.quantile(dots, torch.tensor([0.05, 0.95], dtype=dots.dtype), dim=0)
        low, high = torch.minimum(low, bounds[0]), torch.maximum(high, bounds[1])
    return (low + high) / 2, max(1.3 * float((high - low).max()), 1e-6)
