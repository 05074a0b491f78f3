"""A scene as files that other programs open: one module a format, one table of what a saved scene holds."""

from collections.abc import Callable
from pathlib import Path

from gen3r.export.cameras import write_cameras
from gen3r.export.depth import write_depth_video
from gen3r.export.metadata import write_metadata
from gen3r.export.ply import write_ply
from gen3r.export.preview import write_preview
from gen3r.export.video import write_rgb_video
from gen3r.files import whole_folder
from gen3r.scene import Scene

WRITERS: dict[str, Callable[[Scene, Path], None]] = {
    "rgb.mp4": write_rgb_video,
    "depth.mp4": write_depth_video,
    "points.ply": write_ply,
    "cameras.json": write_cameras,
    "scene.safetensors": lambda scene, path: scene.save(path),
    "preview.png": write_preview,
    "metadata.json": write_metadata,
}


def save_scene(scene: Scene, folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Writes every format of `WRITERS` into `folder`; returns the files. Errors as `whole_folder`."""
    folder = Path(folder)
    with whole_folder(folder, overwrite) as partial:
        for name, write in WRITERS.items():
            write(scene, partial / name)
    return [folder / name for name in WRITERS]
