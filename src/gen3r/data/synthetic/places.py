"""The places of the world: rooms, corridors, streets, plazas and open terrain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gen3r.data.synthetic.decorator import Decorator
from gen3r.data.synthetic.light import LAMPLIGHT, Source, daylight
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.objects import GREEN, ROOM_THINGS, TOPS, build, shapes
from gen3r.data.synthetic.textures import Rng

Ground = Callable[[Array], Array]
AROUND = 400.0  # metres to the end of the ground
PALE = ("white", "white", "grey", "beige", "beige", "brown", "yellow", "teal", "blue")
WOODEN = ("brown", "beige", "black", "white", "grey")
LEAVES = ("green", "green", "green", "brown", "orange")
WALLS = ("plaster", "plaster", "plaster", "stripes", "bricks", "mottled")


def level(xy: Array) -> Array:
    """The height [...] of flat ground at places [..., 2]."""
    return np.zeros(xy.shape[:-1])


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What was built, for the camera, the movers, the light and the caption.

    surfaces: part -> (texture or "", colour). lamps: sources that burn at night, indoors always. ambient: indoors the
    ambient light, outdoors None. walk, look: boxes [2, 3] for the camera and its target, over the ground. heading: of
    a walk or a drive, an azimuth from the x axis; reach: how far at most [m]. shots: the camera's motions. lane:
    movers keep to the heading. ground: its height. landscape: a kind of terrain.
    """

    surfaces: dict[str, tuple[str, str]]
    lamps: list[Source] = field(default_factory=list)
    ambient: Array | None = None
    walk: Array
    look: Array
    heading: float
    reach: float
    shots: Sequence[str]
    lane: bool = False
    ground: Ground = level
    landscape: str = ""


def indoors(long: bool, d: Decorator, time: str) -> Layout:
    """A furnished room or a `long` corridor, with windows, doors, images and lamps; some rooms have a wall across."""
    rng, b = d.rng, d.builder
    size = rng.uniform([1.6, 12, 2.3], [5.0, 26, 4.2]) if long else rng.uniform([2.8, 3.2, 2.3], [7.5, 9.0, 3.6])
    w, depth, h = size
    floor = d.surface(("planks", "tiles", "checker", "mottled", "plaster"), WOODEN)
    wall = d.surface(WALLS, PALE, 0.6)
    other = wall if rng.random() < 0.5 else d.surface(WALLS, None, 0.6)
    trim, ceiling = d.surface(("plaster", "planks"), WOODEN)[2], d.surface(("plaster",), ("white", "beige"))[2]
    b.box([0, 0, -0.05], [w + 0.2, depth + 0.2, 0.1], floor[2])
    b.box([0, 0, h + 0.05], [w + 0.2, depth + 0.2, 0.1], ceiling)
    windows = _walls(d, size, (other[2], wall[2], wall[2], wall[2]), trim)
    if windows:
        glow, drop = 0.05 if time == "night" else rng.uniform(0.5, 0.95), rng.choice([0.2, 0.5, rng.uniform(1, 9)])
        _distance(d, 8, 45, 14, glow, drop)
    if not long and depth > 5 and rng.random() < 0.35:  # a wall across with a passage through it
        y, at, wide = rng.uniform(-0.15, 0.3) * depth, rng.uniform(0.2, 0.8) * w, rng.uniform(0.9, 2.2)
        gap = (max(at - wide / 2, 0.1), min(at + wide / 2, w - 0.1), 0.0, min(h - 0.1, rng.uniform(2.0, 2.6)))
        b.wall(np.array([-w / 2, y]), np.array([w / 2, y]), h, other[2], [gap])
    _furnish(d, size, int(rng.integers(3, 8) if long else rng.integers(5, 14)))
    count = 4 if long else int(rng.integers(1, 4))
    spread = np.stack([rng.uniform(-0.2, 0.2, count) * w, np.linspace(-0.3, 0.35, count) * depth], 1)
    points = [np.array([*xy, h - 0.3]) for xy in spread]
    lamp = d.material("plaster", np.array([1, 0.97, 0.88]), emission=1)
    for p in points:
        b.blob(p + [0, 0, 0.17], [0.13, 0.13, 0.08], lamp)
    lamps, ambient = _indoor_light(rng, time, points, windows)
    return Layout(
        surfaces={"walls": wall[:2], "floor": floor[:2]}, lamps=lamps, ambient=ambient,
        walk=np.array([[-w * 0.42, -depth * 0.45, 0.8], [w * 0.42, depth * 0.2, min(1.9, h - 0.5)]]),
        look=np.array([[-w * 0.48, -depth * 0.1, 0.1], [w * 0.48, depth * 0.5, 1.6]]),
        heading=np.pi / 2 + rng.normal(0, 0.15 if long else 0.5), reach=min(depth * 0.5, 6.0), lane=long,
        shots=("dolly", "walk", "walk", "close") if long else ("dolly", "dolly", "walk", "orbit", "close", "close"),
    )  # fmt: skip


def _walls(d: Decorator, size: Array, looks: Sequence[int], trim: int) -> list[Array]:
    """Four walls with windows, doors, images and skirting; returns where light comes in."""
    rng, b, (w, depth, h) = d.rng, d.builder, size
    corners = 0.5 * np.array([[-w, depth], [w, depth], [w, -depth], [-w, -depth]])
    door, windows = d.surface(("planks", "plaster"), WOODEN)[2], []
    for side, (start, end) in enumerate(zip(corners, np.roll(corners, -1, 0), strict=True)):
        length = float(np.hypot(*(end - start)))
        along = (end - start) / length
        yaw, inwards = float(np.arctan2(along[1], along[0])), np.array([along[1], -along[0]])
        openings, chance = [], (0.6, 0.35, 0.15, 0.35)[side]
        for bay in np.arange(0, length - 1.2, 3.2 if length > 10 else length):
            room = min(length, 3.2 if length > 10 else length) - 0.3
            wide = min(rng.uniform(0.7, 3.0), 0.8 * room)
            left, low = bay + 0.15 + rng.random() * (room - wide), rng.choice([0.02, rng.uniform(0.5, 1.1)])
            middle, kind = left + wide / 2, rng.random()
            at = start + along * middle
            if kind < chance:
                openings.append((left, left + wide, low, min(h - 0.15, low + rng.uniform(0.9, 2.0))))
                _window(d, start, along, openings[-1], trim)
                windows.append(np.array([*(at + 0.3 * inwards), low + 0.6]))
            elif kind < chance + 0.25:
                b.box([*at, 1.0], [0.9, 0.14, 2.0], door, yaw)
                for x, z, across, tall in ((0, 2.06, 1.1, 0.12), (-0.5, 1.03, 0.1, 2.06), (0.5, 1.03, 0.1, 2.06)):
                    b.box([*(at + x * along), z], [across, 0.18, tall], trim, yaw)
            elif kind < 0.9:
                frame = [min(rng.uniform(0.3, 1.3), wide), 0.15, rng.uniform(0.3, 1.0)]
                b.box([*at, rng.uniform(1.3, 1.7)], frame, d.material("painting", d.colour()[1]), yaw)
        b.wall(start, end, h, looks[side], openings)
        if not openings:
            b.box([*(start + end) / 2, 0.05], [length, 0.13, 0.1], trim, yaw)
    return windows


def _window(d: Decorator, start: Array, along: Array, opening: Sequence[float], trim: int) -> None:
    """Frame and bars of a window without glass, and perhaps curtains."""
    left, right, low, high = opening
    yaw = float(np.arctan2(along[1], along[0]))
    for u in np.linspace(left, right, int(d.rng.integers(2, 5))):
        d.builder.box([*(start + along * u), (low + high) / 2], [0.06, 0.14, high - low], trim, yaw)
    for z in (low, high):
        d.builder.box([*(start + along * (left + right) / 2), z], [right - left, 0.18, 0.06], trim, yaw)
    if d.rng.random() < 0.4:
        cloth = d.surface(("stripes", "plaster", "plaid"))[2]
        for u in (left - 0.05, right + 0.05):
            for fold in np.linspace(-0.16, 0.16, 4):
                at = start + along * (u + fold) + 0.14 * np.array([along[1], -along[0]])
                d.builder.cylinder([*at, (high + 0.1) / 2], 0.06, high + 0.1, cloth)


def _furnish(d: Decorator, size: Array, count: int) -> None:
    """Furniture against the walls and in the middle, without overlap, with things on it and on the floor."""
    rng, w, placed = d.rng, size[0], []
    small = [d.surface(("painting", "plaster", "mottled", "stripes"))[2] for _ in range(6)]
    if rng.random() < 0.5:
        _, colour, rug = d.surface(("mottled", "checker", "stripes", "plaid"), scale=1.2)
        at = np.array([*(rng.uniform(-0.2, 0.3, 2) * size[:2]), 0.01])
        with d.placing("rug", colour, at):
            d.builder.box(at, [*rng.uniform([0.5, 1.0], [0.7 * w, 2.6]), 0.02], rug)
    for _ in range(count):
        name = d.thing(ROOM_THINGS)
        side = int(rng.integers(0, 4)) if rng.random() < 0.7 else -1
        yaw = (0.0, -np.pi / 2, np.pi, np.pi / 2, rng.uniform(0, 2 * np.pi))[side]
        half = 0.52 * shapes(name)[0][[0, 1] if side % 2 == 0 else [1, 0]] + 0.08
        if (half > size[:2] / 2).any():
            continue
        xy = rng.uniform(-1, 1, 2) * (size[:2] / 2 - half)
        if side >= 0:  # against that wall
            xy[1 - side % 2] = (1, 1, -1, -1)[side] * (size[1 - side % 2] / 2 - half[1 - side % 2])
        radius = 0.85 * float(np.hypot(*half))
        if any(np.hypot(*(xy - p)) < radius + r for p, r in placed):
            continue
        placed.append((xy, radius))
        look, at = d.surface(("plaster", "mottled", "planks", "stripes", "plaid")), np.array([*xy, 0.0])
        extent = d.place(name, at, yaw, look, d.surface(("plaster", "planks"), WOODEN)[2])
        if name in TOPS and rng.random() < 0.8:
            _clutter(d, at + [0, 0, extent[2] * TOPS[name]], extent[:2] * 0.4, yaw, small, int(rng.integers(1, 9)))
    _clutter(d, np.zeros(3), size[:2] * 0.47, 0.0, small, int(rng.integers(0, 8)), 1.8)


def _clutter(d: Decorator, at: Array, half: Array, yaw: float, looks: list[int], count: int, scale: float = 1) -> None:
    """Small things on a table or a floor: boxes, books, bottles, bowls, balls."""
    rng, b, (c, s) = d.rng, d.builder, (np.cos(yaw), np.sin(yaw))
    for _ in range(count):
        u, v = rng.uniform(-1, 1, 2) * half
        size, turn = scale * rng.uniform([0.04, 0.04, 0.03], [0.3, 0.22, 0.32]), rng.uniform(0, np.pi)
        place, kind = at + [c * u - s * v, s * u + c * v, size[2] / 2], int(rng.integers(6))
        look, other = rng.choice(looks, 2)
        if kind < 2:
            b.box(place, size, look, turn)
        elif kind == 2:
            for i in range(int(rng.integers(2, 6))):
                low = [*place[:2], at[2] + 0.02 + 0.04 * i]
                b.box(low, [0.26, 0.19, 0.038], (look, other)[i % 2], turn + 0.2 * (i % 3))
        elif kind == 3:
            b.cylinder(place, size[0] / 2, size[2], look)
            b.cylinder(place + [0, 0, 0.7 * size[2]], size[0] / 5, 0.5 * size[2], other)
        else:
            b.blob(place, size / 2, look, turn, rng.choice([0.0, 0.2]))


def _indoor_light(rng: Rng, time: str, points: list[Array], windows: Sequence[Array]) -> tuple[list[Source], Array]:
    """Lamps, brighter when it is dark outside or there is no window, light from windows, and the ambient light."""
    outside = daylight(time)
    dark = outside.mean() < 0.4 or not windows
    warm = np.array([1.0, rng.uniform(0.82, 1.0), rng.uniform(0.6, 0.95)])
    strength = rng.uniform(1.0, 1.5) if dark else rng.choice([0.0, rng.uniform(0.3, 1.0)])
    lamps = [Source(p, warm * strength / len(points) ** 0.7, radius=0.14) for p in points] if strength else []
    if not dark:
        lamps += [Source(window, rng.uniform(1.0, 1.8) * outside, radius=0.6) for window in windows[:3]]
    return lamps, rng.uniform(0.26, 0.42) * (warm if dark else 0.5 * (warm + outside / outside.mean()))


def _distance(d: Decorator, near: float, far: float, count: int, glow: float = 0.0, drop: float = 0.0) -> None:
    """Trees and buildings all around; with a drop, on ground so far below. glow: their own light, seen from inside."""
    rng, trees = d.rng, d.rng.random()
    kinds = (("mottled", ("green",)), ("mottled", ("brown",)), ("facade", None), ("facade", PALE))
    leaves, trunk, *walls = (d.material(kind, d.colour(names)[1], 0.5, glow) for kind, names in kinds)
    if drop:
        ground = d.material("mottled", d.colour(("green", "grey", "brown"))[1], 0.3, glow)
        d.builder.box([0, 0, -drop - 0.2], [2 * AROUND, 2 * AROUND, 0.3], ground)
    for angle in rng.uniform(0, 2 * np.pi, count):
        out = near * (far / near) ** rng.random()
        at, scale = np.array([out * np.cos(angle), out * np.sin(angle), -drop]), 0.7 + out / 40
        if rng.random() < trees:
            name = d.thing(("tree", "pine"))
            size = shapes(name)[0] * scale * rng.uniform(0.8, 1.6)
            build(d.builder, name, at, size, angle, (leaves, trunk))
        else:
            size = rng.uniform([6, 5, 4], [20, 12, 22]) * min(1.5, scale)
            d.builder.box(at + [0, 0, size[2] / 2], size, walls[int(rng.integers(2))], angle + np.pi / 2)


def outdoors(open_place: bool, d: Decorator, time: str) -> Layout:
    """A road between houses with parked cars, or a plaza or a park among buildings; trees, lamps and the like."""
    rng, b, surfaces = d.rng, d.builder, {}
    half, side, length = rng.uniform([2.4, 1.2, 50], [6.5, 5.0, 110])
    if open_place:
        half, length = rng.uniform(7, 14), rng.uniform(18, 30)
        kinds = ("tiles", "bricks", "mottled", "checker", "paving", "grass")
        ground = d.surface(kinds, ("grey", "beige", "brown", "green"), 0.5)
        b.box([0, 0, -0.5], [2 * AROUND, 2 * AROUND, 1.0], ground[2])
        surfaces["ground"] = ground[:2]
    else:
        road = d.surface(("mottled", "gravel", "cobbles"), ("grey", "grey", "black", "brown"), 0.5)
        pavement = d.surface(("tiles", "bricks", "paving", "grass"), ("grey", "grey", "beige", "green"), 0.6)
        b.box([0, 0, -0.5], [2 * half, 2 * AROUND, 1.0], road[2])
        for x in (-1, 1):
            b.box([x * (half + AROUND / 2), 0, -0.44], [AROUND, 2 * AROUND, 1.12], pavement[2])
        surfaces |= {"road": road[:2], "pavement": pavement[:2]}
        if rng.random() < 0.7:
            paint = d.material("plaster", np.array([0.85, 0.84, 0.8]))
            for y in np.arange(-18, length - 20, 4.0):
                b.box([0, y, 0.0], [0.14, 1.8, 0.016], paint)
    share = rng.choice([0.0, 0.5, 1.0]) if open_place else rng.choice([0.4, 1.0, 1.0])
    edge = half + side
    colours = [_row(d, x * edge, -22.0, length - 20, x, share) for x in (-1, 1)]
    colours.append(_row(d, 0.0, length - 18, 0.0, 0, share if open_place or rng.random() < 0.4 else 0.0))
    surfaces["buildings" if open_place else "houses"] = ("", next(filter(None, colours), "grey"))
    _distance(d, max(30, 0.8 * length), 4 * length, int(rng.integers(10, 40)))
    posts = _street_things(d, open_place, half, side, length)
    return Layout(
        surfaces=surfaces, lamps=_lamp_heads(d, posts, time),
        walk=np.array([[-edge * 0.7, -8.0, 1.0], [edge * 0.7, -2.0, 2.4]]),
        look=np.array([[-edge, 1.0 if open_place else 4.0, 0.3], [edge, 10.0 if open_place else 18.0, 3.5]]),
        heading=np.pi / 2, reach=8.0 if open_place else 22.0, lane=not open_place,
        shots=("dolly", "walk", "drone", "orbit", "close", *(() if open_place else ("drive",))),
    )  # fmt: skip


def _row(d: Decorator, x: float, y: float, end: float, side: int, share: float) -> str:
    """Houses along a street on its left or right, or across its end, some left out; returns the first one's colour."""
    rng, first, low = d.rng, "", d.rng.uniform(2.8, 8)
    u, end = (y, end) if side else (-14.0, 14.0)
    while u < end:
        width, depth, height = rng.uniform([6, 6, low], [13, 9, 2.2 * low])
        if rng.random() < share:
            name, colour = d.colour(("beige", "white", "grey", "red", "orange", "brown", "yellow", "teal"))
            first, out = first or name, depth / 2 + rng.choice([0.0, 0.0, rng.uniform(0, 2)])
            at = np.array([x + side * out, u + width / 2, 0]) if side else np.array([u + width / 2, y + out, 0])
            size, yaw = np.array([depth, width, height] if side else [width, depth, height]), np.pi / 2 * abs(side)
            d.builder.box(at + [0, 0, height / 2], size, d.facade(colour))
            kind = rng.random()
            if kind < 0.6:
                roof = d.surface(("bricks", "planks"), ("red", "brown", "grey"))[2]
                if kind < 0.3:
                    d.builder.roof(at + [0, 0, height], [width, depth + 0.6, 2.2], roof, yaw)
                else:
                    d.builder.box(at + [0, 0, height + 0.2], size * [1, 1, 0] + [0.5, 0.5, 0.4], roof)
        u += width + (rng.uniform(1, 8) if rng.random() < 0.3 else 0)
    return first


def _street_things(d: Decorator, open_place: bool, half: float, side: float, length: float) -> list[Array]:
    """Trees, lamp posts and the like on a plaza or a pavement, and cars; returns where lamp posts stand."""
    rng, places, posts = d.rng, [], []
    kinds = ("tree", "tree", "tree", "pine", "bench", "lamp post", "lamp post", "planter", "bush", "bin", "fence",
             "person")  # fmt: skip
    if open_place:
        kinds += ("monument", "statue", "kiosk", "rock", "car", "bench")
        for at in rng.uniform([-8, -3], [8, 12], (int(rng.integers(6, 22)), 2)):
            if np.hypot(at[0], at[1] + 6) > 2.5 and all(np.hypot(*(at - p)) > 1.8 for p in places):
                places.append(at)
    else:
        for x in (-1, 1):
            y = np.arange(-6, min(length - 25, 50), rng.uniform(4, 8))
            places += [np.array([x * (half + min(0.7, side / 2)), v + rng.uniform(-1, 1)]) for v in y]
    for xy in places:
        name, at = d.thing(kinds), np.array([*xy, 0.0 if open_place else 0.12])
        _stand(d, name, at)
        if name in ("lamp post", "street lantern"):
            posts.append(at)
        if not open_place and rng.random() < 0.4:
            _stand(d, d.thing(("car",)), np.array([np.sign(xy[0]) * (half - 1.0), xy[1] + 2.8, 0.0]))
    return posts


def _stand(d: Decorator, name: str, at: Array) -> None:
    """One of them, in drawn looks and size."""
    green, post = name in GREEN, name in ("lamp post", "street lantern")
    look = d.surface(("mottled",) if green else ("plaster", "mottled", "stripes"), LEAVES if green else None)
    second = d.surface(("mottled", "planks"), ("brown", "grey", "black"))
    d.place(name, at, d.rng.uniform(-0.6, 0.6), look, second[2], 1.0 if post else d.rng.uniform(0.8, 1.25))


def _lamp_heads(d: Decorator, posts: list[Array], time: str) -> list[Source]:
    """The light of lamp posts: of the few that stand nearest. All glow when it is dark."""
    if time in ("dusk", "night"):
        glow = d.material("plaster", LAMPLIGHT, emission=1.0)
        for post in posts:
            d.builder.blob(post + [0, 0, 3.5], [0.3, 0.3, 0.4], glow)
    nearest = sorted(posts, key=lambda p: abs(p[1] - 4))[:5]
    return [Source(p + [0, 0, 3.5], 2.6 * LAMPLIGHT, radius=0.45) for p in nearest]


BIOMES = {
    # ground textures and colours, the colours of leaves, what stands about
    "meadow": (("grass", "mottled"), ("green",), ("green", "green", "teal"), ("tree", "tree", "pine", "bush", "rock")),
    "autumn": (("grass", "mottled"), ("brown", "orange"), ("orange", "red", "yellow"), ("tree", "bush", "rock")),
    "desert": (("gravel", "mottled"), ("beige", "orange"), ("green", "teal"), ("rock", "rock", "bush")),
    "snow": (("plaster", "gravel"), ("white",), ("green", "teal", "white"), ("pine", "pine", "rock")),
}
BIOME_SHARES = (0.5, 0.2, 0.2, 0.1)


def terrain(d: Decorator, time: str) -> Layout:
    """Hills, perhaps before mountains, with a path, trees and rocks, and perhaps a hut."""
    rng = d.rng
    biome = str(rng.choice(list(BIOMES), p=BIOME_SHARES))
    textures, colours, leaves, things = BIOMES[biome]
    height, path = _hills(rng)
    soil = d.surface(textures, colours, 0.5)
    dirt = d.surface(("gravel", "mottled", "paving"), ("beige", "brown", "grey")) if rng.random() < 0.6 else soil
    spread, away = np.concatenate([np.linspace(0.55, 3, 5), np.geomspace(4, AROUND, 42)]), np.geomspace(42, AROUND, 12)
    across = np.concatenate([-spread[::-1], spread])
    y = np.concatenate([-away[::-1], np.linspace(-40, 40, 66), away])
    xy = np.stack([across[None] + path(y)[:, None], np.broadcast_to(y[:, None], (len(y), len(across)))], -1)
    looks = np.where(np.abs(across[:-1] + across[1:]) < 2.2, dirt[2], soil[2])
    d.builder.heightfield(np.concatenate([xy, height(xy)[..., None]], -1), looks[None].repeat(len(y) - 1, 0))
    plants = [d.surface(("mottled",), leaves) for _ in range(3)]
    stones = [d.surface(("mottled",), ("grey", "brown", "beige")) for _ in range(3)]
    second = d.surface(("mottled", "planks"), ("brown", "grey", "black"))[2]
    for number in range(int(rng.integers(30, 150))):
        reach = 14 if number < 30 else 56
        xy = rng.uniform([-reach, -4], [reach, 4 + 1.6 * reach]).clip(-67, 67)
        if abs(xy[0] - path(xy[1])) > 1.8 and np.hypot(xy[0], xy[1] + 8) > 3:
            name = d.thing(things)
            look = (stones if name in ("rock", "cairn") else plants)[int(rng.integers(3))]
            d.place(name, np.array([*xy, height(xy) - 0.08]), rng.uniform(0, 6), look, second, rng.uniform(0.5, 2.2))
    if rng.random() < 0.4:
        xy = np.array([path(far := rng.uniform(10, 22)) + rng.choice([-1, 1]) * rng.uniform(4.5, 8), far])
        _stand(d, d.thing(("hut",)), np.array([*xy, height(xy)]))
    return Layout(
        surfaces={"ground": soil[:2], "path": dirt[:2]}, ground=height, landscape=biome,
        walk=np.array([[-1.5, -10.0, 0.8], [1.5, -6.0, 2.2]]) + [path(-8.0), 0, 0],
        look=np.array([[-6.0, 1.0, 0.0], [6.0, 12.0, 3.0]]), reach=12.0,
        heading=float(np.arctan2(12, path(6.0) - path(-6.0))),
        shots=("walk", "orbit", "drone", "drone", "dolly", "close"),
    )  # fmt: skip


def _hills(rng: Rng) -> tuple[Ground, Callable[[Any], Any]]:
    """The height of the ground at places [..., 2], flat along a path and rising outwards; x of the path at y."""
    waves = [(rng.normal(0, 1, 2) / scale, rng.uniform(0, 2 * np.pi), 0.055 * scale * rng.uniform(0.3, 1))
             for scale in (4, 6, 9, 14, 20, 28)]  # fmt: skip
    ridges = [(rng.integers(2, 9), rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1)) for _ in range(4)]
    bend, period = rng.uniform(1, 6), rng.uniform(18, 40)
    rise, mountains = rng.uniform(0, 14), rng.choice([0.0, 1.0]) * rng.uniform(10, 110)

    def path(y: Any) -> Any:
        return bend * np.sin(y / period * 2)

    def height(xy: Array) -> Array:
        z = sum(a * np.sin(xy @ k + phase) for k, phase, a in waves)
        away = np.clip(np.abs(xy[..., 0] - path(xy[..., 1])) / 9, 0, 1)
        radius, angle = np.linalg.norm(xy, axis=-1), np.arctan2(xy[..., 1], xy[..., 0])
        far, high = np.clip((radius - 25) / 45, 0, 1), np.clip((radius - 70) / 300, 0, 1)
        ridge = sum(a * np.sin(n * angle + phase + radius / 90) for n, phase, a in ridges)
        return z * (0.2 + 0.8 * away) + rise * far * far + mountains * high * np.clip(0.6 + 0.4 * ridge, 0, None)

    return height, path


PLACES: dict[str, Callable[[Decorator, str], Layout]] = {
    "room": partial(indoors, False), "corridor": partial(indoors, True), "street": partial(outdoors, False),
    "plaza": partial(outdoors, True), "terrain": terrain,
}  # fmt: skip
