"""Solid shapes with materials, collected into one triangle soup. World axes: x right, y ahead, z up, metres."""

from dataclasses import dataclass, field
from functools import lru_cache

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
    """Collects shapes as triangles [n, 3, 3], with a material and the box of its shape for each.

    smooth: round shapes get normals [n, 3, 3] at their corners, flat ones have None.
    """

    smooth: bool = False
    triangles: list[Array] = field(default_factory=list)
    materials: list[Array] = field(default_factory=list)
    origins: list[Array] = field(default_factory=list)
    extents: list[Array] = field(default_factory=list)
    palette: list[Material] = field(default_factory=list)
    normals: list[Array | None] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    owner: int = -1  # whose the shapes are that are added now, -1: nobody's

    def material(self, material: Material) -> int:
        """The number of a new material."""
        self.palette.append(material)
        return len(self.palette) - 1

    def add(self, mesh: trimesh.Trimesh, material: int) -> None:
        """A mesh of any shape, textured along its own bounding box."""
        self.add_triangles(np.asarray(mesh.triangles, np.float32), material)

    def _add_scaled(self, unit: Array, size: ArrayLike, centre: ArrayLike, material: int, yaw: float = 0.0) -> None:
        triangles = unit * np.asarray(size, float)
        if yaw:
            turn = np.asarray(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1]))
            triangles = triangles @ turn[:3, :3].T
        self.add_triangles((triangles + np.asarray(centre, float)).astype(np.float32), material)

    def add_triangles(self, triangles: Array, material: int, normals: Array | None = None) -> None:
        """Triangles [n, 3, 3] of one shape, perhaps with normals [n, 3, 3] at their corners."""
        low, high = triangles.min((0, 1)), triangles.max((0, 1))
        n = len(triangles)
        self.triangles.append(triangles)
        self.normals.append(normals)
        self.owners.append(self.owner)
        self.materials.append(np.full(n, material))
        self.origins.append(np.broadcast_to(low, (n, 3)))
        self.extents.append(np.broadcast_to(np.maximum(high - low, 1e-3), (n, 3)))

    def box(self, centre: ArrayLike, size: ArrayLike, material: int, yaw: float = 0.0) -> None:
        """A box about `centre` [3], of full extents `size` [3], turned about the vertical."""
        self._add_scaled(_unit_box(), size, centre, material, yaw)

    def cylinder(self, centre: ArrayLike, radius: float, height: float, material: int, sections: int = 14) -> None:
        """An upright cylinder about its middle."""
        self._add_scaled(_unit_cylinder(sections), [radius, radius, height], centre, material)

    def cone(self, base: ArrayLike, radius: float, height: float, material: int) -> None:
        """An upright cone standing on `base`."""
        self._add_scaled(_unit_cone(), [radius, radius, height], base, material)

    def sphere(self, centre: ArrayLike, radius: float, material: int, squash: float = 1.0) -> None:
        """A ball, flattened vertically by `squash`."""
        if self.smooth:
            self.blob(centre, [radius, radius, radius * squash], material)
            return
        ball = trimesh.creation.icosphere(2, radius)
        ball.apply_scale([1, 1, squash])
        self.add(_placed(ball, centre), material)

    def crown(self, centre: ArrayLike, radius: float, material: int, squash: float) -> None:
        """The leaves of a tree: a ball; where round shapes are smooth, a few with bumps."""
        if not self.smooth:
            self.sphere(centre, radius, material, squash)
            return
        centre = np.asarray(centre, float)
        turn = float(centre[:2].sum())  # no two trees alike
        for i, angle in enumerate(turn + np.array([0.0, 1.9, 4.1])):
            out = 0.45 * radius * np.array([np.cos(angle), np.sin(angle), 0.6 * (i - 1)])
            self.blob(centre + out, np.array([1, 1, squash]) * radius * (0.72 + 0.06 * i), material, angle, 0.2)

    def spire(self, base: ArrayLike, radius: float, height: float, material: int) -> None:
        """The leaves of a pine: a cone; where round shapes are smooth, four on top of each other."""
        if not self.smooth:
            self.cone(base, radius, height, material)
            return
        for i in range(4):
            low = np.asarray(base, float) + [0, 0, 0.21 * i * height]
            self.cone(low, radius * (1 - 0.2 * i), height * (0.46 - 0.03 * i), material)

    def pipe(self, start: ArrayLike, end: ArrayLike, radius: float, material: int) -> None:
        """A cylinder from one point to another."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        axis = end - start
        across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
        across *= radius / np.linalg.norm(across)
        other = np.cross(axis, across) / np.linalg.norm(axis)
        triangles = _unit_cylinder(12) @ np.stack([across, other, axis]) + (start + end) / 2
        self.add_triangles(triangles.astype(np.float32), material)

    def roof(self, base: ArrayLike, size: ArrayLike, material: int, yaw: float = 0.0) -> None:
        """A gable roof on `base`, its ridge along the first axis."""
        w, d, h = np.asarray(size, float) * [0.5, 0.5, 1.0]
        corners = [[-w, -d, 0], [w, -d, 0], [w, d, 0], [-w, d, 0], [-w, 0, h], [w, 0, h]]
        faces = [[0, 1, 5], [0, 5, 4], [2, 3, 4], [2, 4, 5], [3, 0, 4], [1, 2, 5], [0, 2, 1], [0, 3, 2]]
        self.add(_placed(trimesh.Trimesh(corners, faces, process=False), base, yaw), material)

    def blob(
        self, centre: ArrayLike, radii: ArrayLike, material: int, yaw: float = 0.0, bumps: float = 0.0, splits: int = 2
    ) -> None:
        """An ellipsoid of radii [3], with smooth bumps of that part of them; how they lie goes by `yaw`."""
        ball = _unit_ball(splits)
        wave = np.sin(ball @ np.array([[3.1, -2.3, 1.7], [-1.9, 3.7, 2.9], [2.6, 1.4, -3.3]]) + 7 * yaw).sum(-1) / 2
        radii, scale = np.asarray(radii, np.float32), (1 + bumps * wave)[..., None]
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        corners = (ball * radii * scale) @ turn + np.asarray(centre, float)
        normals = (ball / radii) @ turn
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        self.add_triangles(corners.astype(np.float32), material, normals.astype(np.float32) if self.smooth else None)

    def heightfield(self, points: Array, materials: Array) -> None:
        """Ground over a grid of points [H, W, 3], and a material [H - 1, W - 1] for each of its meshes."""
        normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        points = points.astype(np.float32)

        def halves(grid: Array) -> Array:
            a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
            return np.stack([np.stack([a, b, c], -2), np.stack([a, c, d], -2)], -3)

        corners, across = halves(points), halves(normals)
        for material in np.unique(materials):
            chosen = materials == material
            self.add_triangles(corners[chosen].reshape(-1, 3, 3), int(material), across[chosen].reshape(-1, 3, 3))


@lru_cache
def _unit_box() -> Array:
    """The triangles [12, 3, 3] of a box of unit size about the origin."""
    return np.asarray(trimesh.creation.box([1, 1, 1]).triangles)


@lru_cache
def _unit_cylinder(sections: int) -> Array:
    """The triangles [4 * sections, 3, 3] of an upright cylinder of radius 1 and height 1 about the origin."""
    return np.asarray(trimesh.creation.cylinder(1, 1, sections=sections).triangles)


@lru_cache
def _unit_cone() -> Array:
    """The triangles [28, 3, 3] of a cone of radius 1 and height 1 on the origin."""
    return np.asarray(trimesh.creation.cone(1, 1, sections=14).triangles)


@lru_cache
def _unit_ball(splits: int) -> Array:
    """The triangles [20 * 4**splits, 3, 3] of a ball of radius 1."""
    return np.asarray(trimesh.creation.icosphere(splits).triangles)


def _placed(mesh: trimesh.Trimesh, centre: ArrayLike, yaw: float = 0.0) -> trimesh.Trimesh:
    if yaw:
        mesh.apply_transform(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1]))
    mesh.apply_translation(centre)
    return mesh
