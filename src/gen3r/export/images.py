"""Frames and depth as images, one a frame, and as arrays."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from gen3r.export.selection import Selection
from gen3r.export.unit import SETTING, unit_name
from gen3r.files import write_text
from gen3r.media.images import MAX_STORED, depth_per_unit, write_depth


def frame_name(number: int, suffix: str = ".png") -> str:
    """The file of a frame, counted from 0."""
    return f"frame{number:05d}{suffix}"


def write_frames(selection: Selection, folder: Path) -> None:
    """Writes every frame as a PNG."""
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(selection.scene.frames):
        Image.fromarray(frame.numpy()).save(folder / frame_name(number), compress_level=1)


def reliable_depth(selection: Selection, number: int) -> np.ndarray:
    """The depth of a frame, float32 [H, W], 0 where it is not reliable."""
    return (selection.scene.depth[number] * selection.reliable[number]).nan_to_num(0, 0, 0).numpy()


def write_depth_png(selection: Selection, folder: Path, per_unit: float | None = None) -> None:
    """Writes the depth of every frame as a 16-bit PNG, and depth.json with the stored numbers per unit.

    per_unit: by default as fine as the farthest depth allows. Depth beyond its range is 0, unknown.
    """
    folder.mkdir(exist_ok=True)
    scene, reliable = selection.scene, selection.reliable
    farthest = float(scene.depth[reliable].max()) if bool(reliable.any()) else 0.0
    per_unit = per_unit or depth_per_unit(farthest)
    for number in range(len(scene.depth)):
        depth = reliable_depth(selection, number)
        write_depth(np.where(depth * per_unit < MAX_STORED + 0.5, depth, 0), folder / frame_name(number), per_unit)
    about = {"stored_per_unit": per_unit, "unknown": 0, "unit": unit_name(scene), SETTING: scene.settings.get(SETTING)}
    write_text(json.dumps(about, indent=2) + "\n", folder / "depth.json")


def write_depth_npz(selection: Selection, path: Path) -> None:
    """Writes depth and confidence float32 [F, H, W], mask (which depth is reliable), T_world_camera and K_px."""
    scene = selection.scene
    np.savez(
        path,
        depth=scene.depth.numpy(),
        confidence=scene.confidence.numpy(),
        mask=selection.reliable.numpy(),
        T_world_camera=scene.cameras.T_world_camera.numpy(),
        K_px=scene.cameras.K_px.numpy(),
        metres_per_unit=scene.settings.get(SETTING, np.nan),
    )


def write_depth_exr(selection: Selection, folder: Path) -> None:
    """Writes the depth of every frame as an OpenEXR of one float32 channel, Z; 0 where it is not reliable."""
    import OpenEXR  # pyright: ignore[reportMissingImports]

    folder.mkdir(exist_ok=True)
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION, "unit": unit_name(selection.scene)}
    for number in range(len(selection.scene.depth)):
        channels = {"Z": OpenEXR.Channel(reliable_depth(selection, number))}
        path = str(folder / frame_name(number, ".exr"))
        try:
            OpenEXR.File(dict(header), channels).write(path)
            OpenEXR.File(path)  # its writer does not notice every full disk
        except RuntimeError as error:  # of any cause
            raise OSError("OpenEXR's writer failed") from error
