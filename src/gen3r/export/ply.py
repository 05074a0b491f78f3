"""points.ply: the coloured point cloud, binary, for Blender, MeshLab, CloudCompare and Open3D."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from gen3r.files import whole_file
from gen3r.scene import Scene

_FIELDS = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]


def write_ply(scene: Scene, path: Path) -> None:
    """Writes the believed points of every frame with their colours. World = first camera, OpenCV axes."""
    points, colours = scene.points[scene.mask].numpy(), scene.frames[scene.mask].numpy()
    vertices = np.empty(len(points), dtype=_FIELDS)
    for i, (name, _) in enumerate(_FIELDS):
        vertices[name] = points[:, i] if i < 3 else colours[:, i - 3]
    comments = ["x right, y down, z forward, in the first camera's frame"]
    with whole_file(path) as partial:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<", comments=comments).write(str(partial))
