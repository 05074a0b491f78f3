"""preview.png: a contact sheet of the frames, their depth, and the point cloud seen from two sides."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gen3r.export.colour import colour_depth
from gen3r.files import whole_file
from gen3r.scene import Scene

COLUMNS = 6
TILE = 168
GAP = 6
BACKGROUND = 24


def write_preview(scene: Scene, path: Path) -> None:
    """Draws the sheet."""
    with whole_file(path) as partial:
        contact_sheet(scene).save(partial)


def contact_sheet(scene: Scene) -> Image.Image:
    """Row 1: frames. Row 2: depth. Row 3: the point cloud from the side and from above, with the camera's path."""
    count = min(COLUMNS, len(scene.frames))
    shown = [round(x) for x in np.linspace(0, len(scene.frames) - 1, count)]
    height, width = scene.frames.shape[1:3]
    tile = (round(TILE * width / height), TILE) if width < height else (TILE, max(1, round(TILE * height / width)))
    total = COLUMNS * tile[0] + (COLUMNS + 1) * GAP
    cloud = ((total - 3 * GAP) // 2, 2 * tile[1])
    sheet = Image.new("RGB", (total, 2 * tile[1] + cloud[1] + 4 * GAP), (BACKGROUND,) * 3)
    depth = colour_depth(scene.depth.numpy(), scene.mask.numpy())
    for column, index in enumerate(shown):
        x = GAP + column * (tile[0] + GAP)
        for row, picture in enumerate((scene.frames[index].numpy(), depth[index])):
            resized = Image.fromarray(picture).resize(tile, Image.Resampling.BICUBIC)
            sheet.paste(_labelled(resized, f"{('frame', 'depth')[row]} {index}"), (x, GAP + row * (tile[1] + GAP)))
    for i, (name, yaw, pitch) in enumerate((("points, from the side", 35.0, 20.0), ("points, from above", 0.0, 65.0))):
        view = Image.fromarray(render_points(scene, yaw, pitch, cloud[1], cloud[0]))
        sheet.paste(_labelled(view, name), (GAP + i * (cloud[0] + GAP), 3 * GAP + 2 * tile[1]))
    return sheet


def _labelled(image: Image.Image, text: str) -> Image.Image:
    draw = ImageDraw.Draw(image)
    draw.text((5, 4), text, fill=(0, 0, 0))
    draw.text((4, 3), text, fill=(255, 255, 255))
    return image


def render_points(scene: Scene, yaw: float, pitch: float, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]: the believed points splatted from beside the first camera, path in red.

    yaw, pitch: degrees that the view is turned about the scene's centre, to the left and upwards.
    """
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    points, colours = scene.points[scene.mask].numpy(), scene.frames[scene.mask].numpy()
    if not len(points):
        return canvas
    centre = np.median(points, axis=0)
    spread = np.quantile(np.linalg.norm(points - centre, axis=1), 0.85)
    rotation = _view_rotation(np.deg2rad(yaw), np.deg2rad(pitch))
    distance, focal = 2.6 * spread, 1.05 * min(height, width)

    def project(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = (p - centre) @ rotation.T
        z = q[:, 2] + distance
        safe = np.maximum(z, 1e-6)
        return (q[:, 0] / safe * focal + width / 2), (q[:, 1] / safe * focal + height / 2), z

    x, y, z = project(points)
    _splat(canvas, x, y, z, colours, 0.1 * distance, size=2)
    path = scene.cameras.centres.numpy()
    steps = np.linspace(0, len(path) - 1, 20 * len(path))
    line = np.stack([np.interp(steps, np.arange(len(path)), path[:, i]) for i in range(3)], -1)
    x, y, z = project(line)
    _splat(canvas, x, y, z, np.full((len(line), 3), (235, 60, 60), np.uint8), 1e-6, size=3)
    return canvas


def _view_rotation(yaw: float, pitch: float) -> np.ndarray:
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return about_x.T @ about_y.T


def _splat(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, colours: np.ndarray, near: float, size: int) -> None:
    """Paints squares of `size` pixels, far points first."""
    height, width = canvas.shape[:2]
    order = np.argsort(-z)
    order = order[z[order] > near]
    for dy in range(size):
        for dx in range(size):
            column, row = np.floor(x[order]).astype(int) + dx, np.floor(y[order]).astype(int) + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            canvas[row[inside], column[inside]] = colours[order[inside]]
