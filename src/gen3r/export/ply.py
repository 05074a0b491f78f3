"""points.ply: the exported points with colours, normals and confidence."""

from pathlib import Path

from gen3r.cameras.conventions import world_axes
from gen3r.export.selection import Selection
from gen3r.export.unit import unit_name
from gen3r.geometry.clouds import PLY_KINDS, ply_columns, write_vertices

AXES = {"opencv": "x right, y down, z forward", "opengl": "x right, y up, z backward"}


def write_points(selection: Selection, path: Path) -> None:
    """Writes the points frame by frame."""
    T = world_axes(selection.options.axes)
    vertices = (ply_columns(cloud.moved(T)) for _, cloud in selection.clouds())
    write_vertices(vertices, PLY_KINDS, len(selection.pixels), path, comments(selection))


def comments(selection: Selection) -> list[str]:
    """What a PLY file says about its numbers."""
    return [f"{AXES[selection.options.axes]}; from the first camera", f"unit: {unit_name(selection.scene)}"]
