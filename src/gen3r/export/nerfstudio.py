"""A folder for nerfstudio: transforms.json, images, and points to start splats from."""

import json
from pathlib import Path

from gen3r.cameras.conventions import world_axes
from gen3r.cameras.formats.nerfstudio import to_nerfstudio
from gen3r.export.images import frame_name, write_frames
from gen3r.export.selection import Selection
from gen3r.export.unit import SETTING, unit_name
from gen3r.files import write_text
from gen3r.geometry.clouds import write_ply

POINTS = "points.ply"


def write(selection: Selection, folder: Path) -> None:
    """Writes images/, points.ply in the world of the cameras (z up), and transforms.json."""
    folder.mkdir(exist_ok=True)
    scene = selection.scene
    write_frames(selection, folder / "images")
    write_ply(selection.cloud().moved(world_axes("z up")), folder / POINTS, "x right, y forward, z up")
    names = [f"images/{frame_name(number)}" for number in range(len(scene.frames))]
    about = {"ply_file_path": POINTS, "unit": unit_name(scene), SETTING: scene.settings.get(SETTING)}
    write_text(
        json.dumps({**to_nerfstudio(scene.cameras, names), **about}, indent=1) + "\n", folder / "transforms.json"
    )
