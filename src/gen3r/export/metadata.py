"""metadata.json: what a scene is and where it comes from, for people and scripts."""

from typing import Any

from gen3r import __version__
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.scene import Scene


def metadata(scene: Scene) -> dict[str, Any]:
    """Prompt, settings and sizes, and the frame and unit of all numbers of the scene, as a JSON object."""
    valid = scene.depth[scene.mask]
    return {
        "gen3r": __version__,
        "prompt": scene.prompt,
        "settings": scene.settings,
        "frames": len(scene.frames),
        "height": scene.cameras.height,
        "width": scene.cameras.width,
        "frames_per_second": FRAMES_PER_SECOND,
        "points": len(valid),
        "depth_range": [float(valid.min()), float(valid.max())] if len(valid) else None,
        "unit": "the model's: about the mean distance of the scene's points from the first camera",
        "convention": "world = first camera; OpenCV axes: x right, y down, z forward",
    }
