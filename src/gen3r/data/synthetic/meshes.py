"""Shapes with materials, collected into one triangle soup. World axes: x right, y ahead, z up, metres."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import trimesh
from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True)
class Material:
    """How a surface looks: a texture of the atlas, its tiles a metre, and its own light (1 = a lamp).

    fit: the tile is stretched over each face of the shape instead of repeated.
    """

    texture: int
    tiles_per_metre: float = 1.0
    emission: float = 0.0
    fit: bool = False


@dataclass
class MeshBuilder:
    """Collects shapes as triangles [n, 3, 3] with a material and an owner; round ones with normals [n, 3, 3]."""

    triangles: list[Array] = field(default_factory=list)
    materials: list[int] = field(default_factory=list)
    normals: list[Array | None] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    palette: list[Material] = field(default_factory=list)
    owner: int = -1  # whose the shapes are that are added now, -1: nobody's

    def material(self, material: Material) -> int:
        """The number of a new material."""
        self.palette.append(material)
        return len(self.palette) - 1

    def add(self, triangles: Array, material: int, normals: Array | None = None) -> None:
        """Triangles [n, 3, 3] of one shape, perhaps with normals [n, 3, 3] at their corners."""
        self.triangles.append(triangles.astype(np.float32))
        self.normals.append(None if normals is None else normals.astype(np.float32))
        self.materials.append(material)
        self.owners.append(self.owner)

    def box(self, centre: ArrayLike, size: ArrayLike, material: int, yaw: float = 0.0) -> None:
        """A box about `centre` [3], of full extents `size` [3], turned about the vertical."""
        self.add(_unit("box") * np.asarray(size) @ turned(yaw).T + np.asarray(centre), material)

    def cylinder(self, centre: ArrayLike, radius: float, height: float, material: int) -> None:
        """An upright cylinder about its middle."""
        self.add(_unit("cylinder") * [radius, radius, height] + np.asarray(centre), material)

    def cone(self, base: ArrayLike, radius: float, height: float, material: int) -> None:
        """An upright cone standing on `base`."""
        self.add(_unit("cone") * [radius, radius, height] + np.asarray(base), material)

    def pipe(self, start: ArrayLike, end: ArrayLike, radius: float, material: int) -> None:
        """A cylinder from one point to another."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        axis = end - start
        across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
        across *= radius / np.linalg.norm(across)
        other = np.cross(axis, across) / np.linalg.norm(axis)
        self.add(_unit("cylinder") @ np.stack([across, other, axis]) + (start + end) / 2, material)

    def roof(self, base: ArrayLike, size: ArrayLike, material: int, yaw: float = 0.0) -> None:
        """A gable roof on `base`, its ridge along the first axis."""
        self.add(_unit("roof") * np.asarray(size) @ turned(yaw).T + np.asarray(base), material)

    def blob(self, centre: ArrayLike, radii: ArrayLike, material: int, yaw: float = 0.0, bumps: float = 0.0) -> None:
        """An ellipsoid of radii [3], with smooth bumps of that part of them; how they lie goes by `yaw`."""
        ball, radii = _unit("ball"), np.asarray(radii, float)
        wave = np.sin(ball @ np.array([[3.1, -2.3, 1.7], [-1.9, 3.7, 2.9], [2.6, 1.4, -3.3]]) + 7 * yaw).sum(-1) / 2
        normals = (ball / radii) @ turned(yaw).T
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        corners = ball * radii * (1 + bumps * wave)[..., None] @ turned(yaw).T
        self.add(corners + np.asarray(centre, float), material, normals)

    def wall(
        self, start: Array, end: Array, height: float, material: int, openings: Sequence[tuple[float, ...]] = ()
    ) -> None:
        """A wall on a line from one place [2] to another, with openings (left, right, bottom, top) along it."""
        along = end - start
        length, yaw, x = float(np.hypot(*along)), float(np.arctan2(along[1], along[0])), 0.0
        for left, right, low, high in [*sorted(openings), (length, length, 0.0, 0.0)]:
            for a, b, z, top in ((x, left, 0.0, height), (left, right, 0.0, low), (left, right, high, height)):
                if b - a > 0.01 and top - z > 0.01:
                    middle = start + along * (a + b) / (2 * length)
                    self.box([*middle, (z + top) / 2], [b - a + 0.001, 0.1, top - z], material, yaw)
            x = right

    def heightfield(self, points: Array, materials: Array) -> None:
        """Ground over a grid of points [H, W, 3], and a material [H - 1, W - 1] for each of its meshes."""
        normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)

        def halves(grid: Array) -> Array:
            a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
            return np.stack([np.stack([a, b, c], -2), np.stack([a, c, d], -2)], -3)

        corners, across = halves(points), halves(normals)
        for material in np.unique(materials):
            chosen = materials == material
            self.add(corners[chosen].reshape(-1, 3, 3), int(material), across[chosen].reshape(-1, 3, 3))


def turned(yaw: float) -> Array:
    """The rotation [3, 3] by that angle about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@lru_cache
def _unit(shape: str) -> Array:
    """The triangles [n, 3, 3] of a shape of unit size: about the origin, or standing on it."""
    if shape == "roof":
        corners = [[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0], [-0.5, 0, 1], [0.5, 0, 1]]
        faces = [[0, 1, 5], [0, 5, 4], [2, 3, 4], [2, 4, 5], [3, 0, 4], [1, 2, 5], [0, 2, 1], [0, 3, 2]]
        return np.array(corners)[np.array(faces)]
    create = trimesh.creation
    makers = {"box": lambda: create.box([1, 1, 1]), "cylinder": lambda: create.cylinder(1, 1, sections=14),
              "cone": lambda: create.cone(1, 1, sections=14), "ball": lambda: create.icosphere(2)}  # fmt: skip
    return np.asarray(makers[shape]().triangles)
