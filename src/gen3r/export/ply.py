"""points.ply: the coloured point cloud, binary, for Blender, MeshLab and splat tools."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from gen3r.files import whole_file
from gen3r.scene import Scene


def write_ply(scene: Scene, path: Path) -> None:
    """Writes the believed points of every frame with their colours. World = first camera, OpenCV axes."""
    points, colours = scene.points[scene.mask].numpy(), scene.frames[scene.mask].numpy()
    names = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    vertices = np.empty(len(points), dtype=names)
    for i, (name, _) in enumerate(names):
        vertices[name] = points[:, i] if i < 3 else colours[:, i - 3]
    with whole_file(path) as partial:
        PlyData([PlyElement.describe(vertices, "vertex")]).write(str(partial))
