"""Ray casting of a procedural world into posed RGB-D frames (Embree, on the CPU)."""

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from gen3r.data.synthetic.lights import Lights, Sky
from gen3r.data.synthetic.meshes import Array, MeshBuilder
from gen3r.data.synthetic.textures import Atlas

EDGE_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


class Renderer:
    """Casts rays into one world."""

    def __init__(self, builder: MeshBuilder, atlas: Atlas, lights: Lights, sky: Sky) -> None:
        self.atlas, self.lights, self.sky = atlas, lights, sky
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, np.concatenate(builder.triangles))
        self._describe(builder)

    def _describe(self, b: MeshBuilder) -> None:
        """What shading asks about each face."""
        triangles = np.concatenate(b.triangles)
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self.material = np.concatenate(b.materials)
        self.origin, self.extent = np.concatenate(b.origins), np.concatenate(b.extents)
        self.texture = np.array([m.texture for m in b.palette])
        self.scale = np.array([m.tiles_per_metre for m in b.palette], np.float32)
        self.emission = np.array([m.emission for m in b.palette], np.float32)
        self.fit = np.array([m.fit for m in b.palette])
        # Every face's texture axes: the two world axes that its normal leans on least, the vertical one last.
        main = np.abs(self.normals).argmax(1)
        self.axes = np.array([[1, 2], [0, 2], [0, 1]])[main]

    def is_free(self, poses: Array, fov: float, least: float = 0.5, near: float = 0.35) -> bool:
        """Whether the path goes through no surface, keeps clear of all, and sees surfaces in `least` of its pixels.

        near: least distance to any surface; half of what is seen is three times as far.
        """
        place = poses[:, :3, 3]
        if not self.visible(place[:-1], place[1:] - place[:-1]).all():
            return False
        rays = self.rays(poses[::4], fov, 28, 28)
        face, depth = self._cast(*rays)
        if ((face >= 0) & ((self.normals[face] * rays[1]).sum(1) > 0)).mean() > 0.02:
            return False  # it is inside a solid, whose faces it sees from behind
        seen = depth.reshape(len(poses[::4]), -1)
        depths = np.where(seen > 0, seen, np.inf)
        clear = depths.min() > near and np.median(depths, axis=1).min() > 2.9 * near
        return bool(clear and (seen > 0).mean(1).min() > least)

    def largest_share(self, poses: Array, fov: float) -> float:
        """How much of what is seen has one material, in the first, the middle or the last frame."""
        face, _ = self._cast(*self.rays(poses[[0, len(poses) // 2, -1]], fov, 28, 28))
        materials = [self.material[f[f >= 0]] for f in face.reshape(3, -1)]
        return max(np.bincount(m).max() / len(m) if len(m) else 1.0 for m in materials)

    def render(self, poses: Array, fov: float, height: int, width: int) -> tuple[Array, Array]:
        """uint8 frames [F, H, W, 3] and z-depth [F, H, W] in metres (0 = sky), edges antialiased."""
        origin, direction = self.rays(poses, fov, height, width)
        face, distance = self._cast(origin, direction)
        pixel = 2 * np.tan(fov / 2) / height
        colour = self._shade(origin, direction, face, distance, pixel).reshape(-1, height, width, 3)
        depth = distance.reshape(-1, height, width)
        edge = self._edges(face.reshape(-1, height, width), depth)
        samples = []
        for dx, dy in EDGE_SAMPLES:
            rays = [r[edge.ravel()] for r in self.rays(poses, fov, height, width, dx, dy)]
            samples.append(self._shade(rays[0], rays[1], *self._cast(*rays), pixel))
        colour[edge] = np.mean(samples, axis=0)
        return (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8), depth.astype(np.float32)

    @staticmethod
    def rays(poses: Array, fov: float, height: int, width: int, dx: float = 0, dy: float = 0) -> tuple[Array, Array]:
        """Origins, and directions of unit depth along the camera's z axis, each [F*H*W, 3]."""
        half = np.tan(fov / 2)
        y, x = np.mgrid[0:height, 0:width]
        local = np.stack(
            [(2 * (x + 0.5 + dx) - width) / height * half, (2 * (y + 0.5 + dy) / height - 1) * half, np.ones_like(x)],
            -1,
        )
        poses = poses.astype(np.float32)
        direction = local.reshape(-1, 3).astype(np.float32) @ poses[:, :3, :3].mT
        origin = np.broadcast_to(poses[:, None, :3, 3], direction.shape)
        return np.ascontiguousarray(origin.reshape(-1, 3)), direction.reshape(-1, 3)

    def _cast(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """The face that each ray meets first (-1: none) and its z-depth (0: none)."""
        hit = self.scene.run(origin, direction, query="INTERSECT", output=True)
        face = hit["primID"]
        return face, np.where(face >= 0, hit["tfar"], 0)

    @staticmethod
    def _edges(face: Array, depth: Array) -> Array:
        """Pixels beside another face whose depth or orientation differs."""
        edge = np.zeros(face.shape, bool)
        for axis in (1, 2):
            differ = np.diff(face, axis=axis) != 0
            for shift in ((0, 1), (1, 0)):
                pad = [(0, 0)] * 3
                pad[axis] = shift
                edge |= np.pad(differ, pad)
        return edge

    def _shade(self, origin: Array, direction: Array, face: Array, distance: Array, pixel: float) -> Array:
        """Colours [N, 3] of rays that met `face` at parameter `distance`."""
        colour = self._sky(direction)
        hit = np.flatnonzero(face >= 0)
        if not len(hit):
            return colour
        f, d, t = face[hit], direction[hit], distance[hit][:, None]
        point = origin[hit] + d * t
        normal = self.normals[f]
        facing = (normal * d).sum(1, keepdims=True)
        normal = np.where(facing > 0, -normal, normal)
        albedo = self._albedo(f, point, t[:, 0] * pixel / np.clip(np.abs(facing[:, 0]), 0.15, 1))
        light = self._light(point, normal)
        emission = self.emission[self.material[f]][:, None]
        colour[hit] = albedo * (emission + (1 - emission) * light)
        return colour

    def _albedo(self, face: Array, point: Array, footprint: Array) -> Array:
        material = self.material.take(face)
        axes = self.axes.take(face, 0)
        uv = np.take_along_axis(point - self.origin.take(face, 0), axes, 1)
        # A fitted tile covers the face; facades repeat it every four metres instead of stretching without bound.
        extent = np.take_along_axis(self.extent.take(face, 0), axes, 1)
        repeats = np.maximum(np.round(extent / 4), 1)
        scale = np.where(self.fit.take(material)[:, None], repeats / extent, self.scale.take(material)[:, None])
        uv = uv * scale
        uv[:, 1] = -uv[:, 1]
        return self.atlas.sample(self.texture.take(material), uv, footprint * scale.max(1))

    def _light(self, point: Array, normal: Array) -> Array:
        lights = self.lights
        up = 0.5 + 0.5 * normal[:, 2:]
        total = lights.ambient_up * up + lights.ambient_down * (1 - up)
        start = point + normal * 2e-3
        for source in lights.sources:
            to = np.broadcast_to(source.at * 100, point.shape) if source.sun else source.at - point
            distance = np.linalg.norm(to, axis=1, keepdims=True)
            cosine = np.clip((normal * to).sum(1, keepdims=True) / distance, 0, 1)
            fall = 1.0 if source.sun else 1 / (1 + 0.12 * distance**2)
            lit = self.visible(start, to)
            total = total + source.colour * cosine * fall * lit[:, None]
        return total

    def visible(self, start: Array, to: Array) -> Array:
        """Whether nothing is between `start` and `start + to` [N, 3]."""
        reach = self.scene.run(
            np.ascontiguousarray(start, np.float32), np.ascontiguousarray(to, np.float32), query="DISTANCE"
        )
        return reach >= 1.0

    def _sky(self, direction: Array) -> Array:
        sky = self.sky
        d = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        t = np.clip(d[:, 2:], 0, 1) ** 0.6
        colour = sky.horizon + (sky.zenith - sky.horizon) * t
        x, y = (d[:, :2] / (np.abs(d[:, 2:]) + 0.25)).T
        cloud = np.sin(3.1 * x + 1.3 * np.sin(2.3 * y)) * np.sin(2.7 * y + 1.7 * np.sin(1.9 * x))
        cover = np.clip(sky.clouds * (cloud + 0.3), 0, 1)[:, None] * np.clip(d[:, 2:] * 4, 0, 1)
        return (colour + (sky.cloud - colour) * cover).astype(np.float32)
