"""The renderer: soft shadows of many lights, ambient occlusion, things that move, skies, fog and rain.

One shadow ray and one ray for the ambient light a pixel. Each of sixteen neighbours takes another of sixteen
directions; a box of 4 x 4 of them on the same surface is averaged (interleaved sampling with a discontinuity buffer:
Keller and Heidrich 2001, "Interleaved Sampling").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.light import Light
from gen3r.data.synthetic.meshes import Array, MeshBuilder
from gen3r.data.synthetic.textures import Atlas, Rng
from gen3r.data.synthetic.tracing import Hits, Tracer, dot

EDGE_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
PATTERN = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])  # Bayer's
_z = (2 * np.arange(16) + 1) / 16 - 1
_angle = np.arange(16) * np.pi * (3 - 5**0.5)
SPHERE = np.stack([np.sqrt(1 - _z**2) * np.cos(_angle), np.sqrt(1 - _z**2) * np.sin(_angle), _z], 1).astype(np.float32)
EXPOSURE = {"morning": 0.42, "noon": 0.45, "afternoon": 0.43, "dusk": 0.32, "night": 0.24}  # how bright images are
CHUNK = 2**18  # pixels that are worked on at once
FALL = 0.12  # lamps: one over one plus this times the square of the distance


@dataclass(frozen=True)
class Rendered:
    """Frames uint8 [F, H, W, 3], z-depth float32 [F, H, W] (0: sky), what moves bool [F, H, W], and how many pixels
    each of the builder's owners has."""

    frames: Array
    depth: Array
    moving: Array
    seen: Array


class Renderer(Tracer):
    """Draws a place in its light.

    reach: how far ambient light is looked for [m].
    """

    def __init__(self, builder: MeshBuilder, atlas: Atlas, light: Light, reach: float) -> None:
        super().__init__(builder)
        self.atlas, self.light, self.reach, self.gain = atlas, light, reach, 1.0

    def _describe(self, b: MeshBuilder) -> None:
        super()._describe(b)
        values = ((m.texture, m.tiles_per_metre, m.emission, m.fit) for m in b.palette)
        kinds = (int, np.float32, np.float32, bool)
        self.looks = [np.array(v, kind) for v, kind in zip(zip(*values, strict=True), kinds, strict=True)]

    def render_clip(self, poses: Array, fov: float, height: int, width: int, rain: Sequence[Rng]) -> Rendered:
        """All frames; a generator for each draws its rain."""
        step = max(1, CHUNK // (height * width))
        parts = [self._render(poses, np.arange(i, min(i + step, len(poses))), fov, height, width)
                 for i in range(0, len(poses), step)]  # fmt: skip
        colour, depth, moving, seen = (np.concatenate(x) for x in zip(*parts, strict=True))
        if self.light.rain:
            for picture, rng in zip(colour, rain, strict=True):
                _streak(picture, rng, self.light.horizon)
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
        hits = self.trace(origin, direction, frame)
        surface = hits.surface.reshape(shape)
        lit = self._soft_visibility(hits, surface)
        colour = self._colour(direction, hits, lit.reshape(2, -1), pixel).reshape(*shape, 3)
        edge = _edges(surface, hits.depth.reshape(shape))
        chosen = np.flatnonzero(edge)
        total = np.zeros((len(chosen), 3), np.float32)
        for dx, dy in EDGE_SAMPLES:
            rays = [r[chosen] for r in self.rays(poses[frames], fov, height, width, dx, dy)]
            there = self.trace(rays[0], rays[1], frame[chosen])
            total += self._colour(rays[1], there, self._visibility_beside(there, chosen, surface, lit), pixel)
        colour.reshape(-1, 3)[chosen] = total / len(EDGE_SAMPLES)
        owner = np.where(hits.face >= 0, self.owner.take(hits.face), -1)
        return colour, hits.depth.reshape(shape), (hits.face >= self.still).reshape(shape), owner

    def _contributions(self, hits: Hits) -> list[Array]:
        """What each source would give if nothing stood in its way, [N], times its colour."""
        given = []
        for source in self.light.sources:
            if source.sun:
                given.append(np.clip(hits.normal @ source.at.astype(np.float32), 0, None))
                continue
            to = source.at.astype(np.float32) - hits.point
            square = dot(to, to)
            cosine = dot(hits.normal, to) / np.sqrt(np.maximum(square, 1e-6))
            given.append(np.clip(cosine, 0, None) / (1 + FALL * square))
        return given

    def _visibility(self, hits: Hits, turn: Array) -> Array:
        """Seen or not, [2, N]: one direction to the sources, and one of the ambient light; `turn` [N] says which."""
        start = hits.point + hits.flat * (2e-3 + 2e-4 * hits.depth[:, None])
        visible = np.ones((2, len(turn)), np.float32)
        sky = self.reach * (hits.normal + 0.98 * SPHERE.take(turn * 7 % 16, 0))
        visible[1] = ~self.blocked(start, sky, hits.frame)
        given = [c * float(s.colour.mean()) for c, s in zip(self._contributions(hits), self.light.sources, strict=True)]
        total = np.sum(given, axis=0)
        lit = np.flatnonzero((total > 1e-3) & (hits.face >= 0))
        goal, passed = total[lit] * ((turn[lit] + 0.5) / 16), np.zeros(len(lit), np.float32)
        to = np.zeros((len(lit), 3), np.float32)
        for source, mine in zip(self.light.sources, given, strict=True):  # a source as often as it gives light
            chosen = np.flatnonzero((passed <= goal) & (goal < passed + mine[lit]))
            passed += mine[lit]
            at = source.at.astype(np.float32) + source.radius * SPHERE.take(turn[lit[chosen]] * 5 % 16, 0)
            to[chosen] = 300 * at if source.sun else at - start[lit[chosen]]
        visible[0, lit] = ~self.blocked(start[lit], to, hits.frame[lit])
        return visible

    def _soft_visibility(self, hits: Hits, surface: Array) -> Array:
        """The mean of `_visibility` over the 4 x 4 pixels around that see the same surface, [2, F, H, W]."""
        frames, height, width = surface.shape
        y, x = np.mgrid[0:height, 0:width]
        sharp = self._visibility(hits, np.tile(PATTERN[y % 4, x % 4].ravel(), frames)).reshape(2, *surface.shape)
        edge = ((0, 0), (2, 1), (2, 1))
        around, values = np.pad(surface, edge, constant_values=-2), np.pad(sharp, ((0, 0), *edge))
        total, weight = np.zeros_like(sharp), np.zeros(surface.shape, np.float32)
        for dy in range(4):
            for dx in range(4):
                same = around[:, dy : dy + height, dx : dx + width] == surface
                weight += same
                total += values[:, :, dy : dy + height, dx : dx + width] * same
        return total / weight

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
        light, up = self.light, 0.5 + 0.5 * hits.normal[:, 2:]
        facing = np.abs(dot(hits.flat, direction))
        above, below = light.above.astype(np.float32), light.below.astype(np.float32)
        shine = (below + (above - below) * up) * (0.25 + 0.75 * visible[1, :, None])
        for given, source in zip(self._contributions(hits), light.sources, strict=True):
            shine += (given * visible[0])[:, None] * source.colour.astype(np.float32)
        albedo, emission = self._albedo(hits, hits.depth * pixel / np.clip(facing, 0.15, 1))
        colour = albedo * (1 - 0.35 * light.rain) * (emission + (1 - emission) * shine)
        length = np.sqrt(dot(direction, direction))
        if light.rain:
            wet = np.clip(hits.normal[:, 2] - 0.6, 0, None) * (1 - np.clip(facing / length, 0, 1)) ** 3 * visible[1]
            colour += (light.rain * wet)[:, None] * light.horizon.astype(np.float32)
        if light.fog:
            through = np.exp(-light.fog * hits.depth * length)[:, None].astype(np.float32)
            colour = colour * through + (1 - through) * light.horizon.astype(np.float32)
        colour = _shoulder(self.gain * colour)
        nothing = np.flatnonzero(hits.face < 0)
        if len(nothing):
            colour[nothing] = self._sky(direction[nothing] / length[nothing, None])
        return colour

    def _albedo(self, hits: Hits, footprint: Array) -> tuple[Array, Array]:
        """Colours [N, 3] of surfaces, and what part of it is their own light [N, 1]."""
        material, shape, axes = (x.take(hits.face, 0) for x in (self.material, self.shape, self.axes))
        uv = np.take_along_axis(hits.local - self.origin.take(shape, 0), axes, 1)
        # A fitted tile covers the face; facades repeat it every four metres instead of stretching without bound.
        extent = np.take_along_axis(self.extent.take(shape, 0), axes, 1)
        repeats = np.maximum(np.round(extent / 4), 1)
        texture, scale, emission, fit = (x.take(material) for x in self.looks)
        scale = np.where(fit[:, None], repeats / extent, scale[:, None])
        uv = uv * scale * np.array([1, -1], np.float32)
        return self.atlas.sample(texture, uv, footprint * scale.max(1)), emission[:, None]

    def _sky(self, d: Array) -> Array:
        """Colours [N, 3] along unit directions [N, 3]: a photo, or a gradient with clouds and the sun's glow."""
        light = self.light
        if light.photo is not None:
            return _panorama(light.photo, d, light.turn)
        colour = light.horizon + (light.zenith - light.horizon) * np.clip(d[:, 2:], 0, 1) ** 0.6
        x, y = (d[:, :2] / (np.abs(d[:, 2:]) + 0.25)).T
        cloud = np.sin(3.1 * x + 1.3 * np.sin(2.3 * y)) * np.sin(2.7 * y + 1.7 * np.sin(1.9 * x))
        cover = np.clip(light.clouds * (cloud + 0.3), 0, 1)[:, None] * np.clip(d[:, 2:] * 4, 0, 1)
        colour = (colour + (light.cloud - colour) * cover).astype(np.float32)
        for source in light.sources:
            if source.sun:
                near = np.clip(d @ source.at.astype(np.float32), 0, 1)
                glow = 0.35 * near**8 + 0.5 * near**64 + 2.0 * (near > np.cos(0.03))
                colour += (glow * min(1.0, 0.02 / source.radius))[:, None] * source.colour.astype(np.float32)
        thick = np.clip(light.fog * 30, 0, 1) * np.clip(1 - 1.5 * d[:, 2:], 0, 1)  # fog hides it
        colour += (light.horizon.astype(np.float32) - colour) * thick
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
