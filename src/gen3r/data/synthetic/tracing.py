"""Ray casting of a place (Embree, on the CPU): what rays meet, what they see, and whether a camera path is free."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from gen3r.data.synthetic.meshes import Array, MeshBuilder


@dataclass(frozen=True)
class Part:
    """What moves: the faces from `first` to `last` of the builder, and their pose [F, 4, 4] in the world."""

    first: int
    last: int
    poses: Array


@dataclass(frozen=True)
class Hits:
    """What N rays met: the face (-1: none), z-depth, the point and the same in its shape's own frame, the normal and
    that of the face, both towards the eye, the number of the flat or round surface (-1: none), the frame."""

    face: Array
    depth: Array
    point: Array
    local: Array
    normal: Array
    flat: Array
    surface: Array
    frame: Array

    def __getitem__(self, index: Array) -> "Hits":
        return Hits(*(getattr(self, name).take(index, 0) for name in self.__dataclass_fields__))


class Tracer:
    """Casts rays into a place, at the time of a frame."""

    def __init__(self, builder: MeshBuilder) -> None:
        self._describe(builder)
        self.scene = _embree(self.triangles)
        self.still = len(self.triangles)
        self.moving: list[EmbreeScene] = []

    def _describe(self, b: MeshBuilder) -> None:
        """What shading asks about each face."""
        sizes = [len(t) for t in b.triangles]
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.triangles = np.concatenate(b.triangles)
        self.shape = np.repeat(np.arange(len(sizes)), sizes)
        self.material, self.owner = np.array(b.materials)[self.shape], np.array(b.owners)[self.shape]
        low = np.minimum.reduceat(self.triangles.min(1), first)
        self.origin, self.extent = low, np.maximum(np.maximum.reduceat(self.triangles.max(1), first) - low, 1e-3)
        normals = np.cross(self.triangles[:, 1] - self.triangles[:, 0], self.triangles[:, 2] - self.triangles[:, 0])
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self.round = np.array([n is not None for n in b.normals])[self.shape]
        self.corner_normals = np.concatenate(
            [np.zeros_like(t) if n is None else n for t, n in zip(b.triangles, b.normals, strict=True)]
        )
        # Every face's texture axes: the two world axes that its normal leans on least, the vertical one last.
        main = np.abs(self.normals).argmax(1)
        self.axes = np.array([[1, 2], [0, 2], [0, 1]])[main]
        side = 2 * main + (np.take_along_axis(self.normals, main[:, None], 1)[:, 0] > 0)
        self.surface = (8 * self.shape + np.where(self.round, 6, side)).astype(np.int32)

    def set_in_motion(self, builder: MeshBuilder, parts: Sequence[Part]) -> None:
        """Adds what moves: all that the builder holds beyond what it held at first."""
        self._describe(builder)
        self.moving = [
            _embree(np.concatenate([self.triangles[p.first : p.last] @ p.poses[frame, :3, :3].T
                                    + p.poses[frame, :3, 3] for p in parts]))
            for frame in range(len(parts[0].poses))
        ]  # fmt: skip
        self.turns = np.stack([p.poses[:, :3, :3] for p in parts]).astype(np.float32)
        self.part = np.concatenate([np.full(p.last - p.first, i) for i, p in enumerate(parts)])

    @staticmethod
    def rays(poses: Array, fov: float, height: int, width: int, dx: float = 0, dy: float = 0) -> tuple[Array, Array]:
        """Origins, and directions of unit depth along the camera's z axis, each [F*H*W, 3]."""
        half = np.tan(fov / 2)
        y, x = np.mgrid[0:height, 0:width]
        x, y = (2 * (x + 0.5 + dx) - width) / height * half, (2 * (y + 0.5 + dy) / height - 1) * half
        poses = poses.astype(np.float32)
        local = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3).astype(np.float32)
        direction = local @ poses[:, :3, :3].mT
        origin = np.broadcast_to(poses[:, None, :3, 3], direction.shape)
        return np.ascontiguousarray(origin.reshape(-1, 3)), direction.reshape(-1, 3)

    def is_free(self, poses: Array, fov: float, least: float = 0.3, near: float = 0.3, most: float = 0.7) -> bool:
        """Whether a path goes through no surface, and sees enough.

        least: part of the pixels of every frame with a surface. near: least distance to any; half of them are three
        times as far. most: the largest part of them with one material.
        """
        place = poses[:, :3, 3]
        if self.blocked(place[:-1], place[1:] - place[:-1]).any():
            return False
        some = poses[:: max(1, min(4, len(poses) // 2))]
        origin, direction = self.rays(some, fov, 28, 28)
        hit = self.scene.run(origin, direction, query="INTERSECT", output=True)
        face = hit["primID"]
        if ((face >= 0) & (dot(self.normals[face], direction) > 0)).mean() > 0.02:
            return False  # it is inside a solid, whose faces it sees from behind
        depth = np.where(face >= 0, hit["tfar"], np.inf).reshape(len(some), -1)
        if (
            depth.min() < near
            or np.median(depth, axis=1).min() < 2.9 * near
            or np.isinf(depth).mean(1).max() > 1 - least
        ):
            return False
        materials = [self.material[f[f >= 0]] for f in face.reshape(len(some), -1)]
        return max(np.bincount(m).max() / len(m) for m in materials) < most

    def blocked(self, start: Array, to: Array, frame: Array | None = None) -> Array:
        """Whether anything is between `start` and `start + to` [N, 3], at frames [N], in order, if things move."""
        start, to = np.ascontiguousarray(start, np.float32), np.ascontiguousarray(to, np.float32)
        one = np.ones(len(start), np.float32)
        blocked = self.scene.run(start, to, dists=one, query="OCCLUDED") >= 0
        for now, rays in self._by_frame(frame):
            blocked[rays] |= self.moving[now].run(start[rays], to[rays], dists=one[rays], query="OCCLUDED") >= 0
        return blocked

    def trace(self, origin: Array, direction: Array, frame: Array) -> Hits:
        """What rays of frames [N], in order, meet first."""
        found = self.scene.run(origin, direction, query="INTERSECT", output=True)
        face, depth, u, v = (found[k] for k in ("primID", "tfar", "u", "v"))
        depth = np.where(face >= 0, depth, np.inf).astype(np.float32)
        for now, rays in self._by_frame(frame):
            there = self.moving[now].run(origin[rays], direction[rays], query="INTERSECT", output=True)
            nearer = (there["primID"] >= 0) & (there["tfar"] < depth[rays])
            for mine, other in ((face, there["primID"] + self.still), (depth, there["tfar"]), (u, there["u"]),
                                (v, there["v"])):  # fmt: skip
                mine[rays] = np.where(nearer, other, mine[rays])
        depth = np.where(face >= 0, depth, 0)
        point = origin + direction * depth[:, None]
        flat, local = self.normals.take(face, 0), point
        normal = flat
        curved = np.flatnonzero(self.round.take(face) & (face >= 0))
        if len(curved):
            normal = flat.copy()
            normal[curved] = _interpolate(self.corner_normals, face[curved], u[curved], v[curved])
        moved = np.flatnonzero(face >= self.still)
        if len(moved):
            local, flat, normal = point.copy(), flat.copy(), normal.copy()
            local[moved] = _interpolate(self.triangles, face[moved], u[moved], v[moved])
            turn = self.turns[self.part[face[moved] - self.still], frame[moved]]
            for vectors in (flat, normal):
                vectors[moved] = np.einsum("nij,nj->ni", turn, vectors[moved])
        sign = np.where(dot(flat, direction) > 0, -1, 1).astype(np.float32)[:, None]
        surface = np.where(face >= 0, self.surface.take(face), -1)
        return Hits(face, depth, point, local, normal * sign, flat * sign, surface, frame)

    def _by_frame(self, frame: Array | None) -> list[tuple[int, slice]]:
        """The frames of rays that are in their order, where anything moves."""
        if frame is None or not self.moving or not len(frame):
            return []
        numbers = np.arange(frame[0], frame[-1] + 1)
        bounds = np.searchsorted(frame, np.append(numbers, frame[-1] + 1))
        return [(int(n), slice(a, b)) for n, a, b in zip(numbers, bounds, bounds[1:], strict=False) if b > a]


def dot(a: Array, b: Array) -> Array:
    """Of vectors [N, 3]: [N]."""
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _embree(triangles: Array) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, triangles.astype(np.float32))
    return scene


def _interpolate(corners: Array, face: Array, u: Array, v: Array) -> Array:
    """Values at the corners [T, 3, 3] of faces [N], at barycentric places [N]."""
    a, b, c = corners.take(face, 0).transpose(1, 0, 2)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)
