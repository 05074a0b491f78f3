"""Procedural textures and the mip-mapped atlas that the renderer samples.

A texture is a tile of `TILE` x `TILE` RGB values in [0, 1] that repeats every metre times its material's scale.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Rng = np.random.Generator

TILE = 128
LEVELS = 6  # 128, 64, ..., 4 pixels a side


def value_noise(rng: Rng, cells: int, octaves: int = 3) -> Array:
    """Periodic smooth noise in [0, 1], [TILE, TILE]."""
    total, weight = np.zeros((TILE, TILE)), 0.0
    for octave in range(octaves):
        n = min(cells * 2**octave, TILE)
        grid = rng.random((n, n))
        t = np.arange(TILE) * n / TILE
        i, f = t.astype(int), t % 1
        s = f * f * (3 - 2 * f)
        rows = grid[i % n] * (1 - s)[:, None] + grid[(i + 1) % n] * s[:, None]
        total += (rows[:, i % n] * (1 - s) + rows[:, (i + 1) % n] * s) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def _coordinates() -> tuple[Array, Array]:
    rows, columns = np.mgrid[0:TILE, 0:TILE] / TILE
    return rows, columns


def plaster(rng: Rng, a: Array, b: Array) -> Array:
    """An almost even colour `a` with a breath of `b`."""
    return _mix(a, b, 0.25 * value_noise(rng, 4))


def planks(rng: Rng, a: Array, b: Array) -> Array:
    """Boards along the second axis, each of its own shade, with grain and dark joints."""
    v, u = _coordinates()
    count = int(rng.integers(4, 9))
    board = (v * count).astype(int)
    shade = rng.random(count)[board]
    grain = value_noise(rng, 8)[(np.arange(TILE) * 4) % TILE]
    joint = ((v * count) % 1 < 0.06) | ((u + shade) % 1 < 0.012)
    return _mix(a, b, 0.6 * shade + 0.4 * grain) * np.where(joint, 0.55, 1.0)[..., None]


def tiles(rng: Rng, a: Array, b: Array) -> Array:
    """Square tiles of `a` in joints of `b`."""
    v, u = _coordinates()
    n = int(rng.integers(2, 6))
    joint = (np.minimum((v * n) % 1, (u * n) % 1) < 0.06)[..., None]
    shade = rng.uniform(0.85, 1.1, (n, n))[(v * n).astype(int), (u * n).astype(int)]
    return np.where(joint, b, a * shade[..., None])


def checker(rng: Rng, a: Array, b: Array) -> Array:
    """Two colours in alternating squares."""
    v, u = _coordinates()
    n = 2 * int(rng.integers(1, 4))
    return np.where((((v * n).astype(int) + (u * n).astype(int)) % 2 == 0)[..., None], a, b)


def bricks(rng: Rng, a: Array, b: Array) -> Array:
    """Courses of bricks `a`, every second one shifted by half, in mortar `b`."""
    v, u = _coordinates()
    rows = 2 * int(rng.integers(3, 6))
    columns = rows // 2
    row = (v * rows).astype(int)
    x = u * columns + 0.5 * (row % 2)
    joint = (((v * rows) % 1 < 0.12) | (x % 1 < 0.06))[..., None]
    shade = rng.uniform(0.75, 1.15, (rows, columns))[row, x.astype(int) % columns]
    return np.where(joint, b, a * shade[..., None])


def stripes(rng: Rng, a: Array, b: Array) -> Array:
    """Vertical stripes."""
    _, u = _coordinates()
    n = int(rng.integers(2, 7))
    return np.where((((u * n) % 1) < rng.uniform(0.3, 0.7))[..., None], a, b)


def mottled(rng: Rng, a: Array, b: Array) -> Array:
    """Cloudy mixture of two colours: stone, grass, leaves, fabric."""
    noise = value_noise(rng, int(rng.integers(4, 12)), 4)
    return _mix(a, b, np.clip((noise - 0.5) * 2.2 + 0.5, 0, 1))


def painting(rng: Rng, a: Array, b: Array) -> Array:
    """A framed abstract image of discs and bars that fills the tile once."""
    v, u = _coordinates()
    picture = _mix(a, b, v)
    for _ in range(int(rng.integers(3, 8))):
        colour, centre, size = rng.random(3), rng.random(2), rng.uniform(0.08, 0.3, 2)
        dv, du = np.abs(v - centre[0]) / size[0], np.abs(u - centre[1]) / size[1]
        inside = (dv**2 + du**2 < 1) if rng.random() < 0.6 else (np.maximum(dv, du) < 1)
        picture = np.where(inside[..., None], colour, picture)
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.06
    return np.where(edge[..., None], rng.uniform(0.1, 0.5, 3), picture)


def facade(rng: Rng, a: Array, b: Array) -> Array:
    """A wall of `a` with rows of windows of `b`, lighter on top."""
    v, u = _coordinates()
    rows, columns = rng.integers(1, 4, 2)
    y, x = (v * rows) % 1, (u * columns) % 1
    margin = rng.uniform(0.18, 0.3, 2)
    glass = (np.abs(y - 0.5) < 0.5 - margin[0]) & (np.abs(x - 0.5) < 0.5 - margin[1])
    bar = np.minimum(np.abs(x - 0.5), np.abs(y - 0.5)) < 0.04
    window = np.where(bar[..., None], 0.85, b * (0.7 + 0.5 * y)[..., None])
    return np.where(glass[..., None], window, plaster(rng, a, a * 0.8))


def marble(rng: Rng, a: Array, b: Array) -> Array:
    """Stone of `a` with thin winding veins of `b`."""
    v, u = _coordinates()
    turn = 2 * np.pi * (rng.integers(1, 3) * u + rng.integers(1, 3) * v)
    vein = np.abs(np.sin(turn + 9 * (value_noise(rng, 3, 4) - 0.5)))
    return _mix(b, a, np.clip(vein * 2.5, 0, 1) ** 0.5 * 0.9 + 0.1)


def plaid(rng: Rng, a: Array, b: Array) -> Array:
    """Broad bands of `b` both ways on `a`, and a thin line."""
    v, u = _coordinates()
    n, width = int(rng.integers(1, 4)), rng.uniform(0.25, 0.45)
    bands = 0.5 * (((u * n) % 1 < width) * 1.0 + ((v * n) % 1 < width))
    line = (np.abs((u * n) % 1 - 0.75) < 0.03) | (np.abs((v * n) % 1 - 0.75) < 0.03)
    return np.where(line[..., None], 0.5 + 0.5 * a, _mix(a, b, bands))


def cobbles(rng: Rng, a: Array, b: Array) -> Array:
    """Round stones of `a`, each of its own shade, in `b`."""
    n = int(rng.integers(4, 8))
    nearest, second, number = _cells(rng, n, 0.35)
    shade = rng.uniform(0.7, 1.2, n * n)[number]
    return _mix(b * 0.7, a * shade[..., None], np.clip((second - nearest) * n * 3, 0, 1) ** 0.5)


def stucco(rng: Rng, a: Array, b: Array) -> Array:
    """A rough even colour: `a` with fine grain towards `b`."""
    return _mix(a, b, 0.2 * value_noise(rng, 32, 2) + 0.15 * value_noise(rng, 3))


def herringbone(rng: Rng, a: Array, b: Array) -> Array:
    """Short boards laid in zigzag, each of its own shade."""
    v, u = _coordinates()
    n = 2 * int(rng.integers(2, 4))
    column = (u * n).astype(int)
    slant = np.where(column % 2 == 0, (u * n) % 1, 1 - (u * n) % 1)
    along = v * n * 2 + slant
    board = along.astype(int) % (2 * n)
    shade = rng.random((2 * n, n))[board, column % n]
    joint = (along % 1 < 0.1) | ((u * n) % 1 < 0.05)
    return _mix(a, b, 0.7 * shade + 0.3 * value_noise(rng, 16)) * np.where(joint, 0.6, 1.0)[..., None]


def hexagons(rng: Rng, a: Array, b: Array) -> Array:
    """Six-sided tiles of `a` in joints of `b`."""
    n = 2 * int(rng.integers(2, 5))
    nearest, second, number = _cells(rng, n, 0.0)
    shade = rng.uniform(0.85, 1.1, n * n)[number]
    return np.where(((second - nearest) * n < 0.08)[..., None], b, a * shade[..., None])


def diamonds(rng: Rng, a: Array, b: Array) -> Array:
    """Two colours in squares that stand on a corner."""
    v, u = _coordinates()
    n = int(rng.integers(1, 4))
    return np.where(((((u + v) * n * 2).astype(int) + np.floor((u - v) * n * 2).astype(int)) % 2 == 0)[..., None], a, b)


def ashlar(rng: Rng, a: Array, b: Array) -> Array:
    """Courses of large stones of `a`, of many lengths, in thin joints of `b`."""
    v, u = _coordinates()
    rows = int(rng.integers(3, 6))
    row = (v * rows).astype(int)
    cuts = np.sort(rng.uniform(0, 1, (rows, 3)), axis=1)[row]
    stone = (u[..., None] > cuts).sum(-1) % 3
    shade = rng.uniform(0.75, 1.15, (rows, 3))[row, stone]
    joint = ((v * rows) % 1 < 0.06) | (np.abs(u[..., None] - cuts).min(-1) < 0.012)
    rough = 0.85 + 0.3 * value_noise(rng, 16, 2)
    return np.where(joint[..., None], b, a * (shade * rough)[..., None])


def zigzag(rng: Rng, a: Array, b: Array) -> Array:
    """Bands in zigzag."""
    v, u = _coordinates()
    n, waves = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    return np.where(((v * n + 0.5 * np.abs((u * waves) % 1 - 0.5)) % 1 < 0.5)[..., None], a, b)


def speckled(rng: Rng, a: Array, b: Array) -> Array:
    """Patches of `a` and `b` with hard rims, each of its own shade."""
    n = int(rng.integers(8, 14))
    nearest, _, number = _cells(rng, n, 0.5)
    return _mix(a, b, np.clip(rng.random(n * n)[number] + 0.3 * (nearest * n - 0.5), 0, 1))


def dots(rng: Rng, a: Array, b: Array) -> Array:
    """Round dots of `b` on `a`."""
    v, u = _coordinates()
    n, radius = int(rng.integers(2, 6)), rng.uniform(0.2, 0.38)
    inside = np.hypot((u * n) % 1 - 0.5, (v * n) % 1 - 0.5) < radius
    return np.where(inside[..., None], b, a)


def waves(rng: Rng, a: Array, b: Array) -> Array:
    """Soft bands that wave."""
    v, u = _coordinates()
    n, bend = int(rng.integers(2, 7)), rng.uniform(0.05, 0.2)
    phase = v * n + n * bend * np.sin(2 * np.pi * int(rng.integers(1, 4)) * u)
    return _mix(a, b, 0.5 + 0.5 * np.sin(2 * np.pi * phase))


def mosaic(rng: Rng, a: Array, b: Array) -> Array:
    """A framed image of patches of many colours that fills the tile once."""
    v, u = _coordinates()
    n = int(rng.integers(3, 7))
    _, _, number = _cells(rng, n, 0.45)
    colours = np.clip(np.stack([a, b, *rng.random((3, 3))])[rng.integers(0, 5, n * n)], 0, 1)
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.05
    return np.where(edge[..., None], rng.uniform(0.1, 0.5, 3), colours[number])


def storeys(rng: Rng, a: Array, b: Array) -> Array:
    """A wall of `a` with bands of windows of `b` from side to side, and sills."""
    v, u = _coordinates()
    rows, columns = int(rng.integers(2, 4)), int(rng.integers(3, 7))
    y = (v * rows) % 1
    glass = (y > 0.25) & (y < rng.uniform(0.6, 0.75)) & ((u * columns) % 1 > 0.1)
    sill = (y > 0.78) & (y < 0.86)
    wall = np.where(sill[..., None], 0.6 * a + 0.35, stucco(rng, a, a * 0.75))
    return np.where(glass[..., None], b * (0.6 + 0.6 * y)[..., None], wall)


TEXTURES: dict[str, Callable[[Rng, Array, Array], Array]] = {
    f.__name__: f for f in (
        plaster, planks, tiles, checker, bricks, stripes, mottled, painting, facade, marble, plaid, cobbles,
        stucco, herringbone, hexagons, diamonds, ashlar, zigzag, speckled, dots, waves, mosaic, storeys,
    )
}  # fmt: skip


def _cells(rng: Rng, n: int, jitter: float) -> tuple[Array, Array, Array]:
    """Distances to the nearest and the second of n x n scattered points, and the nearest's number, [TILE, TILE] each.

    Without jitter the points of every second row are shifted by half: the cells are hexagons.
    """
    rows, columns = np.mgrid[0:n, 0:n]
    points = np.stack([rows + 0.5, columns + 0.25 + 0.5 * (rows % 2)], -1) + jitter * rng.uniform(-1, 1, (n, n, 2))
    v, u = (c * n for c in _coordinates())
    around = []
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            i, j = v.astype(int) + dv, u.astype(int) + du
            there = points[i % n, j % n] + np.stack([i - i % n, j - j % n], -1)
            around.append((np.hypot(there[..., 0] - v, there[..., 1] - u), i % n * n + j % n))
    distance, number = (np.stack(x) for x in zip(*around, strict=True))
    order = np.argpartition(distance, 1, axis=0)[:2]
    nearest, second = np.take_along_axis(distance, order, 0) / n
    return nearest, second, np.take_along_axis(number, order[:1], 0)[0]


def _mix(a: Array, b: Array, t: Array) -> Array:
    return a + (b - a) * t[..., None]


class Atlas:
    """Every texture of a scene with its mip levels, in one flat array."""

    def __init__(self, textures: list[Array]) -> None:
        sides = np.array([TILE >> level for level in range(LEVELS)])
        self._offset = np.concatenate([[0], np.cumsum(sides**2)])
        self._pixels = np.concatenate([self._pyramid(t) for t in textures]).astype(np.float32)

    @staticmethod
    def _pyramid(texture: Array) -> Array:
        levels = [np.clip(texture, 0, 1)]
        for _ in range(LEVELS - 1):
            t = levels[-1]
            levels.append((t[::2, ::2] + t[1::2, ::2] + t[::2, 1::2] + t[1::2, 1::2]) / 4)
        return np.concatenate([t.reshape(-1, 3) for t in levels])

    def sample(self, texture: Array, uv: Array, footprint: Array) -> Array:
        """Bilinear colours [N, 3] of textures [N] at uv [N, 2] (in tiles), for pixels `footprint` [N] tiles wide."""
        level = np.clip(np.log2(np.maximum(footprint * TILE, 1e-6)) + 1.2, 0, LEVELS - 1).astype(int)
        side = TILE >> level
        last = side - 1  # a side is a power of two
        base = texture * self._offset[-1] + self._offset[level]
        x = uv * side[:, None] - 0.5
        i = np.floor(x).astype(int)
        f = (x - i).astype(np.float32)
        colour = np.zeros((len(uv), 3), np.float32)
        for dv in (0, 1):
            for du in (0, 1):
                weight = np.abs(1 - dv - f[:, 1]) * np.abs(1 - du - f[:, 0])
                index = base + ((i[:, 1] + dv) & last) * side + ((i[:, 0] + du) & last)
                colour += weight[:, None] * self._pixels.take(index, 0)
        return colour
