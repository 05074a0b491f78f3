"""The renderer of the large world: soft shadows of many lights, ambient occlusion, things that move, fog and rain.

One shadow ray and one ray for the ambient light a pixel, or for every second pixel both ways where pixels are many.
Each of sixteen neighbours takes another of sixteen directions; a box of 4 x 4 of them on the same surface is averaged
(interleaved sampling with a discontinuity buffer: Keller and Heidrich 2001, "Interleaved Sampling").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from gen3r.data.synthetic.lights import Lights, Sky
from gen3r.data.synthetic.meshes import Array, MeshBuilder
from gen3r.data.synthetic.movers import Part
from gen3r.data.synthetic.render import EDGE_SAMPLES, Renderer
from gen3r.data.synthetic.textures import Atlas, Rng
from gen3r.data.synthetic.time_and_weather import Air

PATTERN = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])  # Bayer's
_z = (2 * np.arange(16) + 1) / 16 - 1
_angle = np.arange(16) * np.pi * (3 - 5**0.5)
SPHERE = np.stack([np.sqrt(1 - _z**2) * np.cos(_angle), np.sqrt(1 - _z**2) * np.sin(_angle), _z], 1).astype(np.float32)
EXPOSURE = {"morning": 0.42, "noon": 0.45, "afternoon": 0.43, "dusk": 0.32, "night": 0.24}  # how bright images are
CHUNK = 2**18  # pixels that are worked on at once
MANY = 200**2  # pixels of a frame from which on every second one both ways is enough for shadows
FALL = 0.12  # lamps: one over one plus this times the square of the distance


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


@dataclass(frozen=True)
class Rendered:
    """Frames uint8 [F, H, W, 3], z-depth float32 [F, H, W] (0: sky), what moves bool [F, H, W], and how many pixels
    each of the builder's owners has."""

    frames: Array
    depth: Array
    moving: Array
    seen: Array


class SoftRenderer(Renderer):
    """Casts rays into a place of the large world, at the time of a frame.

    reach: how far ambient light is looked for [m].
    """

    def __init__(self, builder: MeshBuilder, atlas: Atlas, lights: Lights, sky: Sky, air: Air, reach: float) -> None:
        super().__init__(builder, atlas, lights, sky)
        self.air, self.reach, self.gain = air, reach, 1.0
        self.still = len(self.triangles)
        self.moving: list[EmbreeScene] = []

    def _describe(self, b: MeshBuilder) -> None:
        super()._describe(b)
        self.normals = self.normals.astype(np.float32)
        self.origin, self.extent = self.origin.astype(np.float32), self.extent.astype(np.float32)
        sizes = [len(t) for t in b.triangles]
        self.triangles = np.concatenate(b.triangles)
        self.owner = np.repeat(b.owners, sizes)
        self.round = np.repeat([n is not None for n in b.normals], sizes)
        self.corner_normals = np.concatenate(
            [np.zeros_like(t) if n is None else n for t, n in zip(b.triangles, b.normals, strict=True)]
        )
        main = np.abs(self.normals).argmax(1)
        side = 2 * main + (np.take_along_axis(self.normals, main[:, None], 1)[:, 0] > 0)
        self.surface = (8 * np.repeat(np.arange(len(sizes)), sizes) + np.where(self.round, 6, side)).astype(np.int32)

    def set_in_motion(self, builder: MeshBuilder, atlas: Atlas, parts: Sequence[Part]) -> None:
        """Adds what moves: all that the builder holds beyond what it held at first."""
        self.atlas = atlas
        self._describe(builder)
        self.moving = [self._scene_at(parts, frame) for frame in range(len(parts[0].poses))]
        self.turns = np.stack([p.poses[:, :3, :3] for p in parts]).astype(np.float32)
        self.part = np.concatenate([np.full(p.last - p.first, i) for i, p in enumerate(parts)])

    def _scene_at(self, parts: Sequence[Part], frame: int) -> EmbreeScene:
        scene = EmbreeScene()
        placed = [self.triangles[p.first : p.last] @ p.poses[frame, :3, :3].T + p.poses[frame, :3, 3] for p in parts]
        TriangleMesh(scene, np.concatenate(placed).astype(np.float32))
        return scene

    def render_clip(self, poses: Array, fov: float, height: int, width: int, rain: Sequence[Rng]) -> Rendered:
        """All frames; a generator for each draws its rain."""
        step = max(1, CHUNK // (height * width))
        parts = [self._render(poses, np.arange(i, min(i + step, len(poses))), fov, height, width)
                 for i in range(0, len(poses), step)]  # fmt: skip
        colour, depth, moving, seen = (np.concatenate(x) for x in zip(*parts, strict=True))
        if self.air.rain:
            for picture, rng in zip(colour, rain, strict=True):
                _streak(picture, rng, self.sky.horizon)
        frames = (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8)
        return Rendered(frames, depth, moving, np.bincount(seen + 1, minlength=self.owner.max() + 2)[1:])

    def expose(self, poses: Array, fov: float, brightness: float) -> None:
        """Sets the gain so that the middle frame's mean is about `brightness`, as a camera does; not without bounds."""
        colour = self._render(poses, np.array([len(poses) // 2]), fov, 32, 32)[0]
        self.gain = float(np.clip(brightness / max(colour.mean(), 1e-3), 0.7, 4.0))

    def _render(
        self, poses: Array, frames: Array, fov: float, height: int, width: int
    ) -> tuple[Array, Array, Array, Array]:
        shape = (len(frames), height, width)
        pixel = float(2 * np.tan(fov / 2) / height)
        frame = np.repeat(frames, height * width)
        origin, direction = self.rays(poses[frames], fov, height, width)
        hits = self._trace(origin, direction, frame)
        surface = hits.surface.reshape(shape)
        lit = self._soft_visibility(hits, surface, 1 if height * width <= MANY else 2)
        colour = self._colour(direction, hits, lit.reshape(2, -1), pixel).reshape(*shape, 3)
        edge = _edges(surface, hits.depth.reshape(shape))
        chosen = np.flatnonzero(edge)
        samples = ((-0.25, -0.25), (0.25, 0.25)) if height * width > MANY else EDGE_SAMPLES
        total = np.zeros((len(chosen), 3), np.float32)
        for dx, dy in samples:
            rays = [r[chosen] for r in self.rays(poses[frames], fov, height, width, dx, dy)]
            there = self._trace(rays[0], rays[1], frame[chosen])
            total += self._colour(rays[1], there, self._visibility_beside(there, chosen, surface, lit), pixel)
        colour.reshape(-1, 3)[chosen] = total / len(samples)
        owner = np.where(hits.face >= 0, self.owner.take(hits.face), -1)
        return colour, hits.depth.reshape(shape), (hits.face >= self.still).reshape(shape), owner

    def _trace(self, origin: Array, direction: Array, frame: Array) -> Hits:
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
            local, flat = point.copy(), flat.copy()
            local[moved] = _interpolate(self.triangles, face[moved], u[moved], v[moved])
            turn = self.turns[self.part[face[moved] - self.still], frame[moved]]
            normal = normal.copy()
            for vectors in (flat, normal):
                vectors[moved] = np.einsum("nij,nj->ni", turn, vectors[moved])
        away = _dot(flat, direction) > 0
        sign = np.where(away, -1, 1).astype(np.float32)[:, None]
        surface = np.where(face >= 0, self.surface.take(face), -1)
        return Hits(face, depth, point, local, normal * sign, flat * sign, surface, frame)

    def _by_frame(self, frame: Array) -> list[tuple[int, slice]]:
        """The frames of rays that are in their order, where anything moves."""
        if not self.moving or not len(frame):
            return []
        numbers = np.arange(frame[0], frame[-1] + 1)
        bounds = np.searchsorted(frame, np.append(numbers, frame[-1] + 1))
        return [(int(n), slice(a, b)) for n, a, b in zip(numbers, bounds, bounds[1:], strict=False) if b > a]

    def _blocked(self, start: Array, to: Array, frame: Array) -> Array:
        """Whether anything is between `start` and `start + to`."""
        start, to = np.ascontiguousarray(start, np.float32), np.ascontiguousarray(to, np.float32)
        one = np.ones(len(start), np.float32)
        blocked = self.scene.run(start, to, dists=one, query="OCCLUDED") >= 0
        for now, rays in self._by_frame(frame):
            blocked[rays] |= self.moving[now].run(start[rays], to[rays], dists=one[rays], query="OCCLUDED") >= 0
        return blocked

    def _contributions(self, hits: Hits) -> list[Array]:
        """What each source would give if nothing stood in its way, [N], times its colour."""
        given = []
        for source in self.lights.sources:
            if source.sun:
                given.append(np.clip(hits.normal @ source.at.astype(np.float32), 0, None))
                continue
            to = source.at.astype(np.float32) - hits.point
            square = _dot(to, to)
            cosine = _dot(hits.normal, to) / np.sqrt(np.maximum(square, 1e-6))
            given.append(np.clip(cosine, 0, None) / (1 + FALL * square))
        return given

    def _visibility(self, hits: Hits, turn: Array) -> Array:
        """Seen or not, [2, N]: one direction to the sources, and one of the ambient light; `turn` [N] says which."""
        start = hits.point + hits.flat * (2e-3 + 2e-4 * hits.depth[:, None])
        visible = np.ones((2, len(turn)), np.float32)
        sky = self.reach * (hits.normal + 0.98 * SPHERE.take(turn * 7 % 16, 0))
        visible[1] = ~self._blocked(start, sky, hits.frame)
        given = [
            c * float(s.colour.mean()) for c, s in zip(self._contributions(hits), self.lights.sources, strict=True)
        ]
        total = np.sum(given, axis=0)
        lit = np.flatnonzero((total > 1e-3) & (hits.face >= 0))
        goal, passed = total[lit] * ((turn[lit] + 0.5) / 16), np.zeros(len(lit), np.float32)
        to = np.zeros((len(lit), 3), np.float32)
        for source, mine in zip(self.lights.sources, given, strict=True):  # a source as often as it gives light
            chosen = np.flatnonzero((passed <= goal) & (goal < passed + mine[lit]))
            passed += mine[lit]
            at = source.at.astype(np.float32) + source.radius * SPHERE.take(turn[lit[chosen]] * 5 % 16, 0)
            to[chosen] = 300 * at if source.sun else at - start[lit[chosen]]
        visible[0, lit] = ~self._blocked(start[lit], to, hits.frame[lit])
        return visible

    def _soft_visibility(self, hits: Hits, surface: Array, stride: int) -> Array:
        """The mean of `_visibility` over the pixels around that see the same surface, [2, F, H, W]."""
        frames, height, width = surface.shape
        y, x = np.mgrid[0:height:stride, 0:width:stride]
        turn = np.tile(PATTERN[y // stride % 4, x // stride % 4].ravel(), frames)
        every = np.arange(surface.size).reshape(surface.shape)[:, ::stride, ::stride].ravel()
        coarse = self._visibility(hits[every] if stride > 1 else hits, turn).reshape(2, frames, *y.shape)
        lit, found = _average(coarse, surface[:, ::stride, ::stride], surface, stride)
        lost = np.flatnonzero(~found & (surface >= 0))
        if len(lost):
            lit.reshape(2, -1)[:, lost] = self._visibility(hits[lost], lost % 16)
        return lit

    def _visibility_beside(self, hits: Hits, pixel: Array, surface: Array, lit: Array) -> Array:
        """The visibility [2, N] of rays through parts of pixels [N]: that of a pixel around on the same surface."""
        _, height, width = surface.shape
        row, column = pixel // width % height, pixel % width
        visible, missing = np.ones((2, len(pixel)), np.float32), np.arange(len(pixel))
        for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
            inside = (row[missing] + dy >= 0) & (row[missing] + dy < height)
            inside &= (column[missing] + dx >= 0) & (column[missing] + dx < width)
            beside = np.where(inside, pixel[missing] + dy * width + dx, pixel[missing])
            same = surface.ravel()[beside] == hits.surface[missing]
            visible[:, missing[same]] = lit.reshape(2, -1)[:, beside[same]]
            missing = missing[~same]
        missing = missing[hits.face[missing] >= 0]
        if len(missing):
            visible[:, missing] = self._visibility(hits[missing], pixel[missing] % 16)
        return visible

    def _colour(self, direction: Array, hits: Hits, visible: Array, pixel: float) -> Array:
        """Colours [N, 3] of what rays met, through the air."""
        facing = np.abs(_dot(hits.flat, direction))
        albedo = self._albedo(hits.face, hits.local, hits.depth * pixel / np.clip(facing, 0.15, 1))
        up = 0.5 + 0.5 * hits.normal[:, 2:]
        above, below = (c.astype(np.float32) for c in (self.lights.ambient_up, self.lights.ambient_down))
        light = (below + (above - below) * up) * (0.25 + 0.75 * visible[1, :, None])
        for given, source in zip(self._contributions(hits), self.lights.sources, strict=True):
            light += (given * visible[0])[:, None] * source.colour.astype(np.float32)
        emission = self.emission.take(self.material.take(hits.face))[:, None]
        if self.air.rain:
            albedo *= 1 - 0.35 * self.air.rain
        colour = albedo * (emission + (1 - emission) * light)
        length = np.sqrt(_dot(direction, direction))
        if self.air.rain:
            wet = np.clip(hits.normal[:, 2] - 0.6, 0, None) * (1 - np.clip(facing / length, 0, 1)) ** 3 * visible[1]
            colour += (self.air.rain * wet)[:, None] * self.sky.horizon.astype(np.float32)
        if self.air.fog:
            through = np.exp(-self.air.fog * hits.depth * length)[:, None].astype(np.float32)
            colour = colour * through + (1 - through) * np.asarray(self.air.colour, np.float32)
        colour = _shoulder(self.gain * colour)
        nothing = np.flatnonzero(hits.face < 0)
        if len(nothing):
            colour[nothing] = self._heavens(direction[nothing])
        return colour

    def _heavens(self, direction: Array) -> Array:
        """The sky with the glow around the sun, and stars; thick fog hides it."""
        d = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        if self.sky.photo is not None:
            return _panorama(self.sky.photo, d, self.sky.turn)
        colour = self._sky(direction)
        for source in self.lights.sources:
            if source.sun:
                near = np.clip(d @ source.at.astype(np.float32), 0, 1)
                glow = 0.35 * near**8 + 0.5 * near**64 + 2.0 * (near > np.cos(0.03))
                colour += (glow * min(1.0, 0.02 / source.radius))[:, None] * source.colour.astype(np.float32)
        if self.air.stars:
            cell = np.floor(d * 90)
            chance = np.sin(cell @ np.array([12.9898, 78.233, 37.719])) * 43758.5453 % 1
            colour += (0.7 * (chance > 0.993) * np.clip(d[:, 2], 0, 1))[:, None].astype(np.float32)
        thick = np.clip(self.air.fog * 30, 0, 1) * np.clip(1 - 1.5 * d[:, 2:], 0, 1)
        colour += (np.asarray(self.air.colour, np.float32) - colour) * thick
        return _shoulder(self.gain * colour)


def _panorama(photo: Array, direction: Array, turn: float) -> Array:
    """Colours [N, 3] of a photo [h, w, 3] along unit directions [N, 3]: 60 degrees high, 90 wide and mirrored."""
    height, width = photo.shape[:2]
    u = (np.arctan2(direction[:, 1], direction[:, 0]) + turn) / (np.pi / 2) % 2
    v = np.clip(1 - np.arcsin(np.clip(direction[:, 2], 0, 1)) / (np.pi / 3), 0, 1)
    x, y = np.minimum(u, 2 - u) * (width - 1), v * (height - 1)
    i, j = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    s, t = (x - i).astype(np.float32)[:, None], (y - j).astype(np.float32)[:, None]
    above = photo[j, i] + s * (photo[j, i + 1] - photo[j, i])
    return above + t * (photo[j + 1, i] + s * (photo[j + 1, i + 1] - photo[j + 1, i]) - above)


def _dot(a: Array, b: Array) -> Array:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _interpolate(corners: Array, face: Array, u: Array, v: Array) -> Array:
    """Values at the corners [T, 3, 3] of faces [N], at barycentric places [N]."""
    a, b, c = corners.take(face, 0).transpose(1, 0, 2)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def _shoulder(colour: Array) -> Array:
    """Up to 0.7 as it is; brighter ones bend towards 1."""
    over = np.maximum(colour - 0.7, 0)
    return np.minimum(colour, 0.7) + 0.3 * over / (over + 0.3)


def _edges(surface: Array, depth: Array) -> Array:
    """Pixels beside another surface, or beside much nearer or farther ones of the same."""
    edge = np.zeros(surface.shape, bool)
    for axis in (1, 2):
        here, there = ([slice(None)] * 3 for _ in range(2))
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(here), tuple(there)
        differ = surface[a] != surface[b]
        differ |= np.abs(depth[a] - depth[b]) > 0.15 * np.minimum(depth[a], depth[b])
        edge[a] |= differ
        edge[b] |= differ
    return edge


def _average(values: Array, coarse: Array, surface: Array, stride: int) -> tuple[Array, Array]:
    """The mean [C, F, H, W] of values [C, F, h, w] over the 4 x 4 around that see the same surface, and where any is.

    coarse: the surfaces [F, h, w] that the values are of, which are those of every `stride`-th pixel of `surface`.
    """
    mean, found = np.zeros((len(values), *surface.shape), np.float32), np.zeros(surface.shape, bool)
    edge = ((0, 0), (2, 2), (2, 2))
    coarse = np.pad(coarse, edge, constant_values=-2)
    values = np.pad(values, ((0, 0), *edge))
    for py in range(stride):
        for px in range(stride):
            mine = surface[:, py::stride, px::stride]
            _, h, w = mine.shape
            total, weight = np.zeros((len(values), *mine.shape), np.float32), np.zeros(mine.shape, np.float32)
            for dy in range(4):
                for dx in range(4):
                    rows = slice(dy + (2 * py >= stride), dy + (2 * py >= stride) + h)
                    columns = slice(dx + (2 * px >= stride), dx + (2 * px >= stride) + w)
                    same = coarse[:, rows, columns] == mine
                    weight += same
                    total += values[:, :, rows, columns] * same
            mean[:, :, py::stride, px::stride] = total / np.maximum(weight, 1)
            found[:, py::stride, px::stride] = weight > 0
    return mean, found


def _streak(picture: Array, rng: Rng, colour: Array) -> None:
    """Draws rain into an image [H, W, 3]."""
    height, width = picture.shape[:2]
    count, length = int(0.0035 * height * width) + 1, max(3, height // 12)
    start, slant = rng.uniform([-length, 0], [height, width], (count, 2)), 0.15 + 0.05 * rng.standard_normal(count)
    size = rng.uniform(0.3, 1, count)
    for step in range(length):
        row = (start[:, 0] + step).astype(int)
        column = (start[:, 1] + step * slant).astype(int)
        drawn = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (step < size * length)
        at = row[drawn], column[drawn]
        picture[at] += 0.22 * (0.9 * np.maximum(colour, 0.2) + 0.1 - picture[at]) * size[drawn, None]
