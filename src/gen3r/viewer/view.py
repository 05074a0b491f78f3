"""The page of `gen3r view`: scenes side by side, with all controls."""

from typing import TYPE_CHECKING

import numpy as np

from gen3r.export.nodes import look_from_behind
from gen3r.scene import Scene
from gen3r.viewer.panel import Panel
from gen3r.viewer.scripts import LABELS
from gen3r.viewer.shown import ShownScene

if TYPE_CHECKING:
    import viser

GAP = 0.1  # between scenes, in the width of the first
INNER = (0.02, 0.98)  # quantiles between which a scene's width is measured


def show_scenes(server: "viser.ViserServer", scenes: dict[str, Scene]) -> Panel:
    """Shows scenes by name from left to right, each in its own world moved along x, and adds the controls."""
    shown, right = [], 0.0
    for number, scene in enumerate(scenes.values()):
        left, end = _sides(scene)
        offset = 0.0 if number == 0 else right - left
        right = offset + end + GAP * (end - left)
        shown.append(ShownScene(server, f"/scene {number + 1}", scene, np.array([offset, 0.0, 0.0])))
    look_from_behind(server, shown[0].scene)
    server.gui.add_html(LABELS)
    return Panel(server, shown, list(scenes))


def _sides(scene: Scene) -> tuple[float, float]:
    """Where a scene begins and ends along x."""
    x = scene.points[scene.mask][:, 0].numpy()
    left, right = np.quantile(x, INNER) if len(x) else (-1.0, 1.0)
    return float(left), float(right)
