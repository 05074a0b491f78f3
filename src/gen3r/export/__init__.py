"""A scene as files that other programs open: one table of what a saved scene holds."""

import json
from collections.abc import Callable
from pathlib import Path

from gen3r.cameras.formats import write_cameras
from gen3r.export.cloud_view import point_cloud
from gen3r.export.metadata import metadata
from gen3r.export.preview import contact_sheet
from gen3r.export.video import write_video
from gen3r.files import whole_folder, write_text
from gen3r.geometry.clouds import write_ply
from gen3r.media.drawing import colour_depth
from gen3r.scene import Scene

MAX_POINTS = 1_000_000  # of points.ply

WRITERS: dict[str, Callable[[Scene, Path], None]] = {
    "rgb.mp4": lambda scene, path: write_video(scene.frames, path),
    "depth.mp4": lambda scene, path: write_video(colour_depth(scene.depth, scene.mask), path),
    "points.ply": lambda scene, path: write_ply(
        point_cloud(scene, MAX_POINTS),
        path,
        comment="x right, y down, z forward, in the first camera's frame",
    ),
    "cameras.json": lambda scene, path: write_cameras(scene.cameras, path),
    "scene.safetensors": Scene.save,
    "preview.png": lambda scene, path: contact_sheet(scene).save(path),
    "metadata.json": lambda scene, path: write_text(
        json.dumps(metadata(scene), indent=2, ensure_ascii=False) + "\n", path
    ),
}


def save_scene(scene: Scene, folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Writes every file of `WRITERS` into `folder`; returns their paths. Errors as `whole_folder`."""
    folder = Path(folder)
    with whole_folder(folder, overwrite) as partial:
        for name, write in WRITERS.items():
            write(scene, partial / name)
    return [folder / name for name in WRITERS]
