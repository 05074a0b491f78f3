"""depth.mp4: depth as colours, near bright, far dark, on the same scale over the whole clip."""

from pathlib import Path

from gen3r.export.video import write_video
from gen3r.media.drawing import colour_depth
from gen3r.scene import Scene


def write_depth_video(scene: Scene, path: Path) -> None:
    """Writes the scene's depth in colours."""
    write_video(colour_depth(scene.depth, scene.mask), path)
