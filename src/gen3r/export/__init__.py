"""A scene as files that other programs open: one module a format, one table of what a saved scene holds."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from gen3r.errors import InputError
from gen3r.export.cameras import write_cameras
from gen3r.export.depth import write_depth_video
from gen3r.export.metadata import write_metadata
from gen3r.export.ply import write_ply
from gen3r.export.preview import write_preview
from gen3r.export.video import write_rgb_video
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


def check_output(folder: Path, overwrite: bool = False) -> None:
    """Refuses an output folder that holds something or cannot be written, before any work.

    Raises:
        InputError: says which, and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} is not empty; choose another folder or add --overwrite")
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file; choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} cannot be written to; choose another folder")


def save_scene(scene: Scene, folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Writes every format of `WRITERS` into `folder`, all or nothing; returns the files.

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
    except (OSError, InputError) as error:
        # A writer's own message names its temporary file, which means nothing to a person.
        cause = error.__cause__ if isinstance(error, InputError) else error
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        raise InputError(f"cannot write {folder}: {reason}; choose another folder or free space") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in WRITERS]
