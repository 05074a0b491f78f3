"""points.ply: the coloured point cloud, binary, for Blender, MeshLab, CloudCompare and Open3D."""

from pathlib import Path

from gen3r.geometry import clouds
from gen3r.scene import Scene


def write_ply(scene: Scene, path: Path) -> None:
    """Writes the believed points of every frame with their colours. World = first camera, OpenCV axes."""
    cloud = clouds.PointCloud(scene.points[scene.mask], scene.frames[scene.mask])
    clouds.write_ply(cloud, path, "x right, y down, z forward, in the first camera's frame")
