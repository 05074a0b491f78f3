"""Files that other programs read. `save_scene` writes the whole set; one file a format."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from gen3r.errors import InputError
from gen3r.export.cameras import write_cameras
from gen3r.export.ply import write_ply
from gen3r.export.preview import write_preview
from gen3r.export.video import write_depth_video, write_rgb_video
from gen3r.scene import Scene


def _write_metadata(scene: Scene, path: Path) -> None:
    valid = scene.depth[scene.mask]
    near, far = (float(valid.min()), float(valid.max())) if len(valid) else (None, None)
    about = {
        "prompt": scene.prompt,
        "settings": scene.settings,
        "frames": len(scene.frames),
        "height": scene.cameras.height,
        "width": scene.cameras.width,
        "points": int(scene.mask.sum()),
        "depth_range": [near, far],
        "unit": "the model's: about the mean distance of the scene's points from the first camera",
        "convention": "world = first camera; OpenCV axes: x right, y down, z forward",
    }
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Scene, Path], None]] = {
    "rgb.mp4": write_rgb_video,
    "depth.mp4": write_depth_video,
    "points.ply": write_ply,
    "cameras.json": write_cameras,
    "scene.safetensors": lambda scene, path: scene.save(path),
    "preview.png": write_preview,
    "metadata.json": _write_metadata,
}


def check_output(folder: Path, overwrite: bool = False) -> None:
    """Refuses an output folder that holds something or cannot be written, before any work."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} is not empty; choose another folder or add --overwrite")
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} cannot be written to; choose another folder")


def save_scene(scene: Scene, folder: Path, overwrite: bool = False) -> list[Path]:
    """Writes every format into `folder`, all or nothing; returns the files.

    Raises:
        InputError: the folder is not empty (without `overwrite`), cannot be written, or the disk is full.
    """
    folder = Path(folder)
    check_output(folder, overwrite)
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name, write in WRITERS.items():
            write(scene, partial / name)
        folder.mkdir(exist_ok=True)
        for name in WRITERS:
            os.replace(partial / name, folder / name)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}; choose another folder or free space") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in WRITERS]
