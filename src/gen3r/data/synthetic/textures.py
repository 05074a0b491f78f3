"""Procedural textures and the mip-mapped atlas that the renderer samples.

A texture is a tile of `TILE` x `TILE` RGB values in [0, 1] that repeats every metre times its material's scale. Most
are in two colours.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

Array = np.ndarray
Rng = np.random.Generator
Texture = Callable[[Rng, Array, Array], Array]

TILE = 128
LEVELS = 6  # 128, 64, ..., 4 pixels a side
_ROWS, _COLUMNS = np.mgrid[0:TILE, 0:TILE] / TILE


def value_noise(rng: Rng, cells: int, octaves: int = 3) -> Array:
    """Periodic smooth noise in [0, 1], [TILE, TILE]."""
    total, weight = np.zeros((TILE, TILE)), 0.0
    for octave in range(octaves):
        n = min(cells * 2**octave, TILE)
        along = _interpolation(n)
        total += along @ rng.random((n, n), np.float32) @ along.T * 0.5**octave
        weight += 0.5**octave
    return total / weight


@lru_cache
def _interpolation(n: int) -> Array:
    """Weights [TILE, n] that stretch n periodic values smoothly over a tile."""
    t = np.arange(TILE) * n / TILE
    i, f = t.astype(int), t % 1
    s = f * f * (3 - 2 * f)
    weights = np.zeros((TILE, n), np.float32)
    weights[np.arange(TILE), i % n] += 1 - s
    weights[np.arange(TILE), (i + 1) % n] += s
    return weights


def _mix(a: Array, b: Array, t: Array) -> Array:
    return a + (b - a) * t[..., None]


def _cloudy(cells: tuple[int, int], octaves: int, contrast: float) -> Texture:
    """A mixture of both colours in clouds: plaster, stone, grass, leaves, fabric."""

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        noise = value_noise(rng, int(rng.integers(*cells)), octaves)
        return _mix(a, b, np.clip((noise - 0.5) * contrast + 0.2 + 0.12 * contrast, 0, 1))

    return draw


def _laid(rows: tuple[int, int], columns: float, shift: float, joint: float, grain: float = 0.0) -> Texture:
    """Pieces of `a` in courses, each of its own shade, in joints of `b`.

    columns: pieces a course, as a part of the courses; 0: one. shift: of every next course, in pieces; 1: at random.
    """

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        n = int(rng.integers(*rows)) * (2 if shift == 0.5 else 1)
        m = max(1, round(n * columns))
        row = (_ROWS * n).astype(int)
        along = _COLUMNS * m + (rng.random(n)[row] if shift == 1 else shift * row)
        shade = rng.uniform(0.75, 1.15, (n, m))[row, along.astype(int) % m]
        edge = (_ROWS * n % 1 < joint) | (along % 1 < joint * m / n)
        body = a * (shade * (1 - grain * value_noise(rng, 16, 2)))[..., None]
        return np.where(edge[..., None], b, body)

    return draw


def _scattered(cells: tuple[int, int], jitter: float, joint: float) -> Texture:
    """Cells of `a`, each of its own shade, in joints of `b`."""

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        n = int(rng.integers(*cells)) // 2 * 2
        nearest, second, number = _cells(rng, n, jitter)
        inside = np.clip((second - nearest) * n / joint, 0, 1)
        return _mix(b, a * rng.uniform(0.7, 1.2, n * n)[number, None], inside)

    return draw


def _cells(rng: Rng, n: int, jitter: float) -> tuple[Array, Array, Array]:
    """Distances to the nearest and the second of n x n scattered points, and the nearest's number, [TILE, TILE] each.

    Without jitter the points of every second row are shifted by half: the cells are hexagons.
    """
    rows, columns = np.mgrid[0:n, 0:n]
    points = np.stack([rows + 0.5, columns + 0.25 + 0.5 * (rows % 2)], -1) + jitter * rng.uniform(-1, 1, (n, n, 2))
    v, u = _ROWS * n, _COLUMNS * n
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


def _bands(across: bool, upright: bool, wave: float = 0.0, soft: bool = False) -> Texture:
    """Bands of both colours, across, upright or both; straight or waving."""

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        n, part = int(rng.integers(2, 7)), rng.uniform(0.3, 0.7)
        bend = wave * np.sin(2 * np.pi * int(rng.integers(1, 4)) * _COLUMNS)
        phases = [p for p, wanted in ((_ROWS * n + bend, across), (_COLUMNS * n, upright)) if wanted]
        if soft:
            return _mix(a, b, 0.5 + 0.5 * np.sin(2 * np.pi * phases[0]))
        return _mix(a, b, np.mean([p % 1 < part for p in phases], 0))

    return draw


def _checks(turned: bool) -> Texture:
    """Two colours in alternating squares, which may stand on a corner."""

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        n = 2 * int(rng.integers(1, 4))
        x, y = (_ROWS + _COLUMNS, _ROWS - _COLUMNS) if turned else (_ROWS, _COLUMNS)
        return _mix(a, b, (np.floor(x * n) + np.floor(y * n)) % 2)

    return draw


def _windows(bands: bool) -> Texture:
    """A wall of `a` with rows of windows of `b` or, as `bands`, with windows from side to side, lighter on top."""

    def draw(rng: Rng, a: Array, b: Array) -> Array:
        rows, columns = (int(n) for n in rng.integers(1, 5, 2))
        y, x = _ROWS * rows % 1, _COLUMNS * columns % 1
        tall, wide = rng.uniform(0.2, 0.35), 0.46 if bands else rng.uniform(0.15, 0.35)
        across, down = np.abs(x - 0.5), np.abs(y - 0.5)
        glass, frame = (across < wide) & (down < tall), (across < wide + 0.05) & (down < tall + 0.05)
        bar = np.minimum(across, down + bands) < 0.03
        window = np.where(bar[..., None], 0.8, b * (0.6 + 0.6 * y)[..., None])
        wall = _mix(a, 0.75 * a, value_noise(rng, 24, 2))
        return np.where(glass[..., None], window, np.where(frame[..., None], 0.5 * a + 0.4, wall))

    return draw


TEXTURES: dict[str, Texture] = {
    "plaster": _cloudy((3, 6), 3, 0.5), "mottled": _cloudy((4, 12), 4, 2.2), "grass": _cloudy((16, 32), 3, 1.6),
    "planks": _laid((4, 9), 0.0, 1, 0.05, 0.5), "tiles": _laid((2, 6), 1.0, 0, 0.06),
    "bricks": _laid((3, 6), 0.5, 0.5, 0.1), "paving": _laid((2, 5), 0.8, 0.5, 0.05, 0.3),
    "checker": _checks(False), "stripes": _bands(False, True), "plaid": _bands(True, True),
    "cobbles": _scattered((4, 9), 0.35, 0.35), "gravel": _scattered((14, 22), 0.45, 0.5),
    "facade": _windows(False),
    "stucco": _cloudy((24, 33), 2, 0.8), "speckled": _scattered((8, 14), 0.5, 0.02),
    "herringbone": _laid((4, 7), 0.4, 0.5, 0.08, 0.4), "hexagons": _scattered((4, 10), 0.0, 0.12),
    "ashlar": _laid((3, 6), 0.6, 1, 0.05, 0.3), "diamonds": _checks(True), "waves": _bands(True, False, 0.4, True),
    "zigzag": _bands(True, False, 0.9), "storeys": _windows(True),
}  # fmt: skip

# What a held-out scene has in the place of what training scenes have.
TEXTURE_STAND_INS = {
    "plaster": ("stucco",), "mottled": ("speckled",), "grass": ("speckled",), "planks": ("herringbone",),
    "tiles": ("hexagons",), "bricks": ("ashlar",), "paving": ("ashlar",), "checker": ("diamonds",),
    "stripes": ("zigzag", "waves"), "plaid": ("waves",), "cobbles": ("hexagons",), "gravel": ("speckled",),
    "facade": ("storeys",),
}  # fmt: skip
ALIKE = {"plaster", "mottled", "grass", "planks", "stucco", "speckled", "herringbone"}  # in two colours that are close
FITTED = {"painting", "facade", "storeys"}  # they fill a face instead of repeating


class Atlas:
    """Every texture of a scene with its mip levels, in one flat array."""

    def __init__(self, textures: list[Array]) -> None:
        sides = np.array([TILE >> level for level in range(LEVELS)])
        self._offset = np.concatenate([[0], np.cumsum(sides**2)])
        levels: list[Array] = [np.clip(np.stack(textures).astype(np.float32), 0, 1)]
        for _ in range(LEVELS - 1):
            t = levels[-1]
            levels.append((t[:, ::2, ::2] + t[:, 1::2, ::2] + t[:, ::2, 1::2] + t[:, 1::2, 1::2]) / 4)
        self._pixels = np.concatenate([t.reshape(len(textures), -1, 3) for t in levels], 1).reshape(-1, 3)

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
