"""A scene as nodes of a server, which can be changed while people look."""

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from gen3r.export.gaussians import Gaussians, frame_gaussians
from gen3r.export.nodes import (
    FRUSTUM,
    add_frustum,
    add_gaussians,
    add_path,
    add_points,
    camera_colours,
    median_distance,
    picture,
    pose,
)
from gen3r.export.options import ExportOptions
from gen3r.export.selection import Selection
from gen3r.geometry.clouds import PointCloud
from gen3r.media.images import evenly_spaced
from gen3r.scene import Scene
from gen3r.viewer.colouring import point_colours

if TYPE_CHECKING:
    import viser

Kind = Literal["Gaussians", "points"]
Frames = Literal["all", "up to this one", "this one"]
MAX_FRUSTA = 8
MOVING = (255, 96, 64)


class ShownScene:
    """A scene under one node of a viser server. Its world is the scene's, moved by `offset` [3]."""

    def __init__(self, server: "viser.ViserServer", name: str, scene: Scene, offset: np.ndarray | None = None) -> None:
        self.server, self.name, self.scene = server, name, scene
        self.offset = np.zeros(3) if offset is None else offset
        self.unit = median_distance(scene)
        self.selection = Selection(scene, ExportOptions())
        self.kind: Kind = "Gaussians"
        self.colouring = "pictures"
        self.frame, self.frames = 0, "all"
        self._nodes: dict[int, viser.SceneNodeHandle] = {}
        self._lock, self._wanted = threading.Lock(), 0
        self._root = server.scene.add_frame(name, show_axes=False, position=self.offset)
        self._pictures = [picture(frame) for frame in scene.frames]
        self._add_cameras()

    def draw(
        self, options: ExportOptions | None = None, kind: Kind | None = None, colouring: str | None = None
    ) -> None:
        """Draws the points anew; what is None stays. Of calls that come while one draws, only the last one does."""
        self.selection = self.selection if options is None else Selection(self.scene, options)
        self.kind, self.colouring = kind or self.kind, colouring or self.colouring
        self._wanted += 1
        mine = self._wanted
        with self._lock:
            if mine == self._wanted:
                self._draw(self.selection)

    def show_frame(self, number: int, frames: Frames | None = None) -> None:
        """Moves the camera to a frame, with its picture, and shows the points of all frames or of some."""
        self.frame, self.frames = number, frames or self.frames
        with self.server.atomic():
            self.moving.wxyz, self.moving.position = pose(self.scene.cameras, number)
            self.moving.image = self._pictures[number]
            for n, node in self._nodes.items():
                node.visible = self._visible(n)

    def show_cameras(self, visible: bool) -> None:
        """Shows or hides the frusta and the path."""
        for node in (self._frusta, self.moving, self._path):
            node.visible = visible

    def remove(self) -> None:
        """Removes all of its nodes."""
        self._root.remove()

    def pick(self, origin: np.ndarray, direction: np.ndarray) -> tuple[int, Tensor] | None:
        """The point that a ray of the server's world meets first, as its pixel in the flat [F, H, W], and its place.

        The place is in the scene's own world. A ray meets points within a hundredth of their distance, or within
        their width. None: nothing.
        """
        start = torch.from_numpy(np.asarray(origin) - self.offset).float()
        ray = torch.nn.functional.normalize(torch.from_numpy(np.asarray(direction)).float(), dim=0)
        pixels = self.selection.pixels
        points = self.scene.points.flatten(0, 2)[pixels]
        along = (points - start) @ ray
        aside = ((points - start) - along[:, None] * ray).norm(dim=-1)
        reach = torch.maximum(0.01 * along, self.selection.widths)
        met = torch.where((aside < reach) & (along > 0), along, torch.inf)
        if not len(met) or not bool(met.min().isfinite()):
            return None
        first = met < met.min() * 1.1  # of those on the first surface, the nearest to the ray
        chosen = torch.where(first, aside, torch.inf).argmin()
        return int(pixels[chosen]), points[chosen]

    def _visible(self, frame: int) -> bool:
        if self.frames == "all":
            return True
        return frame == self.frame if self.frames == "this one" else frame <= self.frame

    def _draw(self, selection: Selection) -> None:
        colours, start = point_colours(selection, self.colouring), 0
        parts: list[tuple[int, Gaussians | PointCloud]] = list(
            frame_gaussians(selection, "opencv") if self.kind == "Gaussians" else selection.clouds()
        )
        with self.server.atomic():
            for node in self._nodes.values():
                node.remove()
            self._nodes = {}
            for frame, part in parts:
                api, name = self.server.scene, f"{self.name}/points/{frame + 1}"
                count = len(part.points if isinstance(part, PointCloud) else part.means)
                part = replace(part, colours=colours[start : start + count])
                start += count
                node = add_points(api, name, part) if isinstance(part, PointCloud) else add_gaussians(api, name, part)
                node.visible = self._visible(frame)
                self._nodes[frame] = node

    def _add_cameras(self) -> None:
        api, cameras, count = self.server.scene, self.scene.cameras, len(self.scene.frames)
        colours, size = camera_colours(count), FRUSTUM * self.unit
        self._path = add_path(api, f"{self.name}/path", cameras)
        self._frusta = api.add_frame(f"{self.name}/cameras", show_axes=False)
        for i in evenly_spaced(count, min(MAX_FRUSTA, count)):
            frustum = add_frustum(api, f"{self.name}/cameras/{i + 1}", cameras, i, size, colours[i])
            frustum.image = self._pictures[i]
        self.moving = add_frustum(api, f"{self.name}/camera", cameras, 0, 1.5 * size, MOVING)
        self.moving.image = self._pictures[0]
