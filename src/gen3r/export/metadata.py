"""What a saved scene is and where it comes from, for people and scripts, in JSON."""

import json
from pathlib import Path

import gen3r
from gen3r.export.video import FPS
from gen3r.files import whole_file
from gen3r.scene import Scene


def write_metadata(scene: Scene, path: Path) -> None:
    """Writes prompt, settings, sizes, and the frame and unit that every number of the scene is in."""
    frames, height, width = scene.depth.shape
    about = {
        "gen3r": gen3r.__version__,
        "prompt": scene.prompt,
        "settings": scene.settings,
        "frames": frames,
        "height": height,
        "width": width,
        "fps": FPS,
        "points": int(scene.mask.sum()),
        "world": "the first camera; OpenCV axes (x right, y down, z forward)",
        "unit": "the model's own: about the mean distance of the points from the first camera",
    }
    with whole_file(path) as partial:
        partial.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
