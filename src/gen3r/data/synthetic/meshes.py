"""Solid shapes with materials, collected into one triangle soup. World axes: x right, y ahead, z up, metres."""

from dataclasses import dataclass, field

import numpy as np
import trimesh
from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True)
class Material:
    """How a surface looks: a texture of the atlas, its tiles a metre, and its own light (1 = a lamp)."""

    texture: int
    tiles_per_metre: float = 1.0
    emission: float = 0.0
    fit: bool = False  # the tile is stretched over each face of the shape instead of repeated


@dataclass
class MeshBuilder:
    """Collects shapes; `build` returns the triangles with a material, and texture axes, each."""

    triangles: list[Array] = field(default_factory=list)
    materials: list[Array] = field(default_factory=list)
    origins: list[Array] = field(default_factory=list)
    extents: list[Array] = field(default_factory=list)
    palette: list[Material] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    owner: int = -1  # whose the shapes are that are added now, -1: nobody's

    def material(self, material: Material) -> int:
        """The number of a new material."""
        self.palette.append(material)
        return len(self.palette) - 1

    def add(self, mesh: trimesh.Trimesh, material: int) -> None:
        """A mesh of any shape, textured along its own bounding box."""
        triangles = np.asarray(mesh.triangles, np.float32)
        low, high = triangles.min((0, 1)), triangles.max((0, 1))
        n = len(triangles)
        self.owners.append(self.owner)
        self.triangles.append(triangles)
        self.materials.append(np.full(n, material))
        self.origins.append(np.broadcast_to(low, (n, 3)))
        self.extents.append(np.broadcast_to(np.maximum(high - low, 1e-3), (n, 3)))

    def box(self, centre: ArrayLike, size: ArrayLike, material: int, yaw: float = 0.0) -> None:
        """A box about `centre` [3], of full extents `size` [3], turned about the vertical."""
        self.add(_placed(trimesh.creation.box(np.asarray(size, float)), centre, yaw), material)

    def cylinder(self, centre: ArrayLike, radius: float, height: float, material: int, sections: int = 14) -> None:
        """An upright cylinder about its middle."""
        self.add(_placed(trimesh.creation.cylinder(radius, height, sections=sections), centre), material)

    def cone(self, base: ArrayLike, radius: float, height: float, material: int) -> None:
        """An upright cone standing on `base`."""
        self.add(_placed(trimesh.creation.cone(radius, height, sections=14), base), material)

    def sphere(self, centre: ArrayLike, radius: float, material: int, squash: float = 1.0) -> None:
        """A ball, flattened vertically by `squash`."""
        ball = trimesh.creation.icosphere(2, radius)
        ball.apply_scale([1, 1, squash])
        self.add(_placed(ball, centre), material)


def _placed(mesh: trimesh.Trimesh, centre: ArrayLike, yaw: float = 0.0) -> trimesh.Trimesh:
    if yaw:
        mesh.apply_transform(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1]))
    mesh.apply_translation(centre)
    return mesh
