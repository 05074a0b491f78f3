"""The places of the large world: rooms, corridors, streets, plazas and open terrain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gen3r.data.synthetic.lights import Source
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.objects import FURNITURE, GREEN, STREET, TOPS
from gen3r.data.synthetic.splits import SplitDecorator
from gen3r.data.synthetic.textures import Rng
from gen3r.data.synthetic.time_and_weather import LAMPLIGHT, daylight

Ground = Callable[[Array], Array]
Curve = Callable[[Any], Any]
Openings = Sequence[tuple[float, float, float, float]]
AROUND = 400.0  # metres to the end of the ground


def level(xy: Array) -> Array:
    """The height [...] of flat ground at places [..., 2]."""
    return np.zeros(xy.shape[:-1])


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What was built, for the camera, the movers, the light and the caption.

    surfaces: part -> (colour, texture or ""). lamps: sources that burn at night, indoors always. ambient: indoors the
    ambient light, outdoors None. walk, look: boxes [2, 3] for the camera and its target, over the ground. heading:
    where a walk or a drive goes, [2]; reach: how far at most [m]. shots: the camera's motions. stage: a box [2, 2]
    that movers move in; lane: they keep to its heading. ground: its height. landscape: what kind of terrain.
    """

    surfaces: dict[str, tuple[str, str]]
    lamps: list[Source] = field(default_factory=list)
    ambient: Array | None = None
    walk: Array
    look: Array
    heading: Array
    reach: float
    shots: Sequence[str]
    stage: Array
    lane: bool = False
    ground: Ground = level
    landscape: str = ""


PLAIN = ["white", "white", "grey", "beige", "beige", "brown", "yellow", "teal", "blue"]  # walls, mostly pale
WOODEN = ["brown", "beige", "black", "white", "grey"]
FLOORS = ["planks", "tiles", "checker", "mottled", "plaster"]
WALLS = ["plaster", "plaster", "plaster", "stripes", "bricks", "mottled"]


def room(d: SplitDecorator, time: str) -> Layout:
    """A furnished room with lamps, windows to the outside, doors and images; some are divided by a wall."""
    rng = d.rng
    size = rng.uniform([2.8, 3.2, 2.3], [7.5, 9.0, 3.6])
    w, depth, h = size
    surfaces, materials = _shell(d, size)
    windows = _walls(d, size, materials, time)
    inner = rng.random() < 0.35 and depth > 5
    if inner:  # a wall across with a passage through it
        y, at, wide = rng.uniform(-0.15, 0.3) * depth, rng.uniform(0.2, 0.8) * w, rng.uniform(0.9, 2.2)
        gap = (max(at - wide / 2, 0.1), min(at + wide / 2, w - 0.1), 0.0, min(h - 0.1, rng.uniform(2.0, 2.6)))
        _wall(d, np.array([-w / 2, y]), np.array([w / 2, y]), h, materials["other"], [gap])
    _furnish(d, size)
    count = int(rng.integers(1, 4))
    points = [np.array([*(rng.uniform(-0.3, 0.3, 2) * size[:2]), h - 0.3]) for _ in range(count)]
    _ceiling_lamps(d, points, 0.18)
    lamps, ambient = _indoor_light(rng, time, points, windows)
    return Layout(
        surfaces=surfaces, lamps=lamps, ambient=ambient,
        walk=np.array([[-w * 0.42, -depth * 0.45, 0.8], [w * 0.42, depth * 0.2, min(1.9, h - 0.5)]]),
        look=np.array([[-w * 0.48, -depth * 0.1, 0.1], [w * 0.48, depth * 0.5, 1.6]]),
        heading=np.array([np.sin(a := rng.normal(0, 0.5)), np.cos(a)]), reach=depth * 0.5,
        shots=("dolly", "dolly", "walk", "orbit", "close", "close"),
        stage=np.array([[-w / 2 + 0.5, -depth * 0.15], [w / 2 - 0.5, depth * 0.4]]),
    )  # fmt: skip


def _shell(d: SplitDecorator, size: Array) -> tuple[dict[str, tuple[str, str]], dict[str, int]]:
    """Floor and ceiling about the origin; what they and the walls look like, and the walls' materials."""
    b, (w, depth, h) = d.builder, size
    floor_kind, floor_colour, floor = d.surface(FLOORS, WOODEN)
    kind, colour, wall = d.surface(WALLS, PLAIN, 0.6, beside=floor_colour)
    other = wall if d.rng.random() < 0.5 else d.surface(WALLS, None, 0.6)[2]
    trim, ceiling = d.surface(["plaster", "planks"], WOODEN)[2], d.surface(["plaster"], ["white", "beige"])[2]
    b.box([0, 0, -0.05], [w + 0.2, depth + 0.2, 0.1], floor)
    b.box([0, 0, h + 0.05], [w + 0.2, depth + 0.2, 0.1], ceiling)
    return {"walls": (colour, kind), "floor": (floor_colour, floor_kind)}, {"wall": wall, "other": other, "trim": trim}


def _wall(d: SplitDecorator, start: Array, end: Array, height: float, material: int, openings: Openings = ()) -> None:
    """A wall on a line from one place [2] to another, with openings (left, right, bottom, top) along it."""
    along = end - start
    length = float(np.hypot(*along))
    along, yaw = along / length, np.arctan2(along[1], along[0])
    x = 0.0
    for left, right, low, high in [*sorted(openings), (length, length, 0.0, 0.0)]:
        for a, b, z, top in ((x, left, 0.0, height), (left, right, 0.0, low), (left, right, high, height)):
            if b - a > 0.01 and top - z > 0.01:
                middle = start + along * (a + b) / 2
                d.builder.box([*middle, (z + top) / 2], [b - a + 0.001, 0.1, top - z], material, yaw)
        x = right


def _walls(d: SplitDecorator, size: Array, materials: dict[str, int], time: str) -> list[Array]:
    """Four walls with windows, doors, images and skirting; returns where light comes in."""
    rng, (w, depth, h) = d.rng, size
    corners = 0.5 * np.array([[-w, depth], [w, depth], [w, -depth], [-w, -depth]])
    door, windows = d.surface(["planks", "plaster"], WOODEN)[2], []
    for side in range(4):
        start, end = corners[side], corners[(side + 1) % 4]
        length = float(np.hypot(*(end - start)))
        along = (end - start) / length
        openings = []
        if rng.random() < (0.6, 0.35, 0.15, 0.35)[side]:
            wide = min(rng.uniform(0.7, 3.0), 0.7 * length)
            left, low = rng.uniform(0.1, 0.9) * (length - wide - 0.2) + 0.1, rng.choice([0.02, rng.uniform(0.5, 1.1)])
            openings.append((left, left + wide, low, min(h - 0.15, low + rng.uniform(0.9, 2.0))))
        material = materials["other" if side == 0 else "wall"]
        _wall(d, start, end, h, material, openings)
        inwards = np.array([along[1], -along[0]])
        for opening in openings:
            _window(d, start, along, opening, materials["trim"])
            place = start + along * (opening[0] + opening[1]) / 2
            windows.append(np.array([*(place + 0.3 * inwards), (opening[2] + opening[3]) / 2]))
        yaw, free = np.arctan2(along[1], along[0]), [u for u in rng.uniform(0.15, 0.85, 3) * length
                if not any(o[0] - 0.7 < u < o[1] + 0.7 for o in openings)]  # fmt: skip
        if free and rng.random() < 0.4:
            _door(d, np.array([*(start + along * free.pop()), 0]), yaw, door, materials["trim"])
        for u in free[:1]:
            picture, frame = d.material("painting", d.colour()[1]), rng.uniform([0.3, 0.3], [1.3, 1.0])
            d.builder.box([*(start + along * u), rng.uniform(1.3, 1.7)], [frame[0], 0.15, frame[1]], picture, yaw)
        if not openings:
            d.builder.box([*(start + end) / 2, 0.05], [length, 0.13, 0.1], materials["trim"], yaw)
    if windows:
        _outside(d, time)
    return windows


def _window(
    d: SplitDecorator, start: Array, along: Array, opening: tuple[float, float, float, float], trim: int
) -> None:
    """Frame and bars of a window without glass, and perhaps curtains."""
    left, right, low, high = opening
    yaw, bars = np.arctan2(along[1], along[0]), int(d.rng.integers(0, 3))
    for u in np.linspace(left, right, bars + 2):
        d.builder.box([*(start + along * u), (low + high) / 2], [0.06, 0.14, high - low], trim, yaw)
    for z in (low, high):
        d.builder.box([*(start + along * (left + right) / 2), z], [right - left, 0.18, 0.06], trim, yaw)
    if d.rng.random() < 0.4:
        cloth, inwards = d.surface(["stripes", "plaster", "plaid"])[2], np.array([along[1], -along[0]])
        for u in (left - 0.05, right + 0.05):
            for fold in np.linspace(-0.16, 0.16, 4):
                at = start + along * (u + fold) + 0.14 * inwards
                d.builder.cylinder([*at, (high + 0.1) / 2], 0.06, high + 0.1, cloth, 8)


def _outside(d: SplitDecorator, time: str) -> None:
    """What windows show: ground some way below, trees and houses, bright as the day."""
    rng = d.rng
    glow = 0.05 if time == "night" else rng.uniform(0.5, 0.95)
    drop = rng.choice([0.2, 0.5, rng.uniform(1, 9)])
    ground = d.material("mottled", d.colour(["green", "grey", "brown"])[1], 0.3, glow)
    d.builder.box([0, 0, -drop - 0.2], [2 * AROUND, 2 * AROUND, 0.3], ground)
    looks = [d.material(k, d.colour(c)[1], 0.5, glow) for k, c in
             (("mottled", ["green"]), ("mottled", ["brown"]), ("facade", None), ("facade", PLAIN))]  # fmt: skip
    for _ in range(14):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(8, 45)
        at = np.array([far * np.cos(angle), far * np.sin(angle), -drop])
        if rng.random() < 0.6:
            STREET[d.thing(["tree", "pine", "bush"])](d.builder, at, rng.uniform(0.8, 2), angle, looks[0], looks[1])
        else:
            size = rng.uniform([5, 5, 4], [14, 9, 16])
            d.builder.box(at + [0, 0, size[2] / 2], size, looks[int(rng.integers(2, 4))], angle + np.pi / 2)


def _furnish(d: SplitDecorator, size: Array) -> None:
    """Furniture against the walls and in the middle, without overlap, with things on it and on the floor."""
    rng, (w, depth, _) = d.rng, size
    placed: list[tuple[float, float, float]] = []
    small = [d.surface(["painting", "plaster", "mottled", "stripes"])[2] for _ in range(6)]
    if rng.random() < 0.5:
        at = np.array([*(rng.uniform(-0.2, 0.3, 2) * size[:2]), 0.01])
        _, colour, rug = d.surface(["mottled", "checker", "stripes", "plaid"], scale=1.2)
        with d.placing("rug", colour, at):
            d.builder.box(at, [*rng.uniform(1.0, 2.6, 2), 0.02], rug, rng.choice([0, rng.uniform(0, 3)]))
    for _ in range(int(rng.integers(5, 14))):
        name = d.thing(list(FURNITURE)[:ROOM_KINDS])
        extent = np.array(FURNITURE[name][0]) * rng.uniform(0.8, 1.2, 3)
        side = int(rng.integers(0, 4)) if rng.random() < 0.7 else -1
        yaw = [0.0, -np.pi / 2, np.pi, np.pi / 2][side] if side >= 0 else rng.uniform(0, 2 * np.pi)
        half = np.array([[extent[0], extent[1]], [extent[1], extent[0]]])[side % 2] / 2
        x, y = rng.uniform(-0.5, 0.5, 2) * (size[:2] - 2 * half - 0.1)
        if side >= 0:
            x, y = [(x, depth / 2 - half[1] - 0.08), (w / 2 - half[0] - 0.08, y), (x, -depth / 2 + half[1] + 0.08),
                    (-w / 2 + half[0] + 0.08, y)][side]  # fmt: skip
        radius = float(np.hypot(*half)) * 0.85
        if any(np.hypot(x - px, y - py) < radius + pr for px, py, pr in placed):
            continue
        placed.append((x, y, radius))
        _, colour, main = d.surface(["plaster", "mottled", "planks", "stripes", "plaid"])
        second = d.surface(["plaster", "planks"], WOODEN, beside=colour)[2]
        at = np.array([x, y, 0.0])
        with d.placing(name, colour, at):
            FURNITURE[name][1](d.builder, at, extent, yaw, main, second)
            if name in TOPS:
                _clutter(d, at + [0, 0, extent[2] * TOPS[name]], extent[:2] * 0.42, yaw, small, int(rng.integers(0, 9)))
    floor = np.array([0, 0, 0.0])
    _clutter(d, floor, size[:2] * 0.47, 0.0, small, int(rng.integers(0, 8)), 1.8)


def _clutter(
    d: SplitDecorator, at: Array, half: Array, yaw: float, looks: list[int], count: int, scale: float = 1.0
) -> None:
    """Small things on a table or a floor: boxes, books, bottles, bowls, balls."""
    rng, b = d.rng, d.builder
    c, s = np.cos(yaw), np.sin(yaw)
    for _ in range(count):
        u, v = rng.uniform(-1, 1, 2) * half
        size = scale * rng.uniform([0.04, 0.04, 0.03], [0.3, 0.22, 0.32])
        place, look = at + [c * u - s * v, s * u + c * v, size[2] / 2], looks[int(rng.integers(len(looks)))]
        kind, turn = int(rng.integers(6)), rng.uniform(0, np.pi)
        if kind < 2:
            b.box(place, size, look, turn)
        elif kind == 2:
            for i in range(int(rng.integers(2, 6))):
                b.box(at + [place[0] - at[0], place[1] - at[1], 0.02 + 0.04 * i], [0.26, 0.19, 0.038],
                      looks[int(rng.integers(len(looks)))], turn + rng.normal(0, 0.2))  # fmt: skip
        elif kind == 3:
            b.cylinder(place, size[0] / 2, size[2], look)
            b.cylinder(place + [0, 0, 0.7 * size[2]], size[0] / 5, 0.5 * size[2], look)
        else:
            b.blob(place, size * [0.5, 0.5, 0.5], look, turn, rng.choice([0.0, 0.2]))


ROOM_KINDS = 8  # the first of FURNITURE are for training


def _ceiling_lamps(d: SplitDecorator, points: list[Array], above: float) -> None:
    """A flat glowing ball over each lamp's place."""
    lamp = d.material("plaster", np.array([1.0, 0.97, 0.88]), emission=1.0)
    for p in points:
        d.builder.sphere([p[0], p[1], p[2] + above], 0.13, lamp, 0.6)


def corridor(d: SplitDecorator, time: str) -> Layout:
    """A long passage with doors, images, lamps, windows, and things along its walls."""
    rng = d.rng
    w, length, h = rng.uniform([1.6, 12, 2.3], [5.0, 28, 4.2])
    surfaces, materials = _shell(d, np.array([w, 2 * length, h]))
    small = [d.surface(["painting", "plaster", "mottled"])[2] for _ in range(4)]
    door = d.surface(["planks", "plaster"], WOODEN)[2]
    for y, end in ((-4.0, -1), (length - 4, 1)):
        _wall(d, np.array([-w / 2 * end, y]), np.array([w / 2 * end, y]), h, materials["other"])
    _door(d, np.array([0, length - 4.05, 0]), 0, door, materials["trim"])
    bays = np.arange(-1, length - 6, rng.uniform(2.0, 3.6))
    windows, glazed = [], int(rng.choice([0, 0, 1, 2]))
    for side in (-1, 1):
        openings = []
        for bay in bays + rng.uniform(-0.3, 0.3, len(bays)):
            at, u = np.array([side * w / 2, bay, 0]), bay + 4 if side < 0 else length - 4 - bay
            if (side == 1 and glazed) or glazed == 2:
                openings.append((u - 0.7, u + 0.7, rng.choice([0.05, 0.9]), 0.85 * h))
                windows.append(np.array([side * w * 0.4, bay, h * 0.55]))
            elif rng.random() < 0.45:
                _door(d, at, np.pi / 2, door, materials["trim"])
            elif rng.random() < 0.6:
                picture = d.material("painting", d.colour()[1])
                d.builder.box(at + [0, 0, h * 0.58], [0.16, rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.8)], picture)
            else:
                _beside_wall(d, at - [side * 0.36, 0, 0], small)
        ends = np.array([[side * w / 2, -4.0], [side * w / 2, length - 4.0]])[::-side]
        _wall(d, *ends, h, materials["wall"], openings)
    if windows:
        _outside(d, time)
    points = [np.array([0.0, bay, h - 0.25]) for bay in bays[:: max(2, len(bays) // 4)]]
    _ceiling_lamps(d, points, 0.15)
    lamps, ambient = _indoor_light(rng, time, points, windows[1:2])
    return Layout(
        surfaces=surfaces, lamps=lamps, ambient=ambient,
        walk=np.array([[-w * 0.3, -3.4, 1.0], [w * 0.3, 1.5, 1.8]]),
        look=np.array([[-w * 0.45, 3.0, 0.5], [w * 0.45, 9.0, 1.6]]),
        heading=np.array([0.0, 1.0]), reach=min(6.0, length - 8), shots=("dolly", "walk", "walk", "close"),
        stage=np.array([[-w / 2 + 0.6, 2.5], [w / 2 - 0.6, length - 5]]), lane=True,
    )  # fmt: skip


def _door(d: SplitDecorator, at: Array, yaw: float, door: int, frame: int) -> None:
    """A closed door in a wall whose length runs along that angle."""
    along = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    d.builder.box(at + [0, 0, 1.0], [0.9, 0.14, 2.0], door, yaw)
    d.builder.box(at + [0, 0, 2.06], [1.1, 0.18, 0.12], frame, yaw)
    for side in (-0.5, 0.5):
        d.builder.box(at + side * along + [0, 0, 1.03], [0.1, 0.18, 2.06], frame, yaw)


def _beside_wall(d: SplitDecorator, at: Array, small: list[int]) -> None:
    name = d.thing(["plant", "chair", "lamp", "cabinet"])
    _, colour, main = d.surface(["plaster", "mottled", "plaid"])
    second = d.surface(["plaster", "planks"], WOODEN, beside=colour)[2]
    with d.placing(name, colour, at):
        size = np.array(FURNITURE[name][0]) * [0.6, 1, 1]
        FURNITURE[name][1](d.builder, at, size, 0.0, main, second)
        if name in TOPS:
            _clutter(d, at + [0, 0, size[2] * TOPS[name]], size[:2] * 0.4, 0.0, small, 4)


def _indoor_light(rng: Rng, time: str, points: list[Array], windows: Sequence[Array]) -> tuple[list[Source], Array]:
    """Lamps, brighter when it is dark outside or there is no window, light from windows, and the ambient light."""
    outside = daylight(time)
    dark = outside.mean() < 0.4 or not windows
    warm = np.array([1.0, rng.uniform(0.82, 1.0), rng.uniform(0.6, 0.95)])
    strength = rng.uniform(1.0, 1.5) if dark else rng.choice([0.0, rng.uniform(0.3, 1.0)])
    lamps = [Source(p, warm * strength / len(points) ** 0.7, radius=0.14) for p in points] if strength else []
    if not dark:
        lamps += [Source(window, rng.uniform(1.0, 1.8) * outside, radius=0.6) for window in windows[:3]]
    ambient = rng.uniform(0.26, 0.42) * (warm if dark else 0.5 * (warm + outside / outside.mean()))
    return lamps, ambient


def street(d: SplitDecorator, time: str) -> Layout:
    """A road between houses, with parked cars, trees and lamps on the pavements."""
    rng, b = d.rng, d.builder
    half, side_width, length = rng.uniform([2.4, 1.2, 60], [6.5, 5.0, 120])
    kind, colour, road = d.surface(["mottled", "gravel", "cobbles"], ["grey", "grey", "black", "brown"], 0.5)
    side_kind, side_colour, pavement = d.surface(
        ["tiles", "bricks", "paving", "lawn"], ["grey", "grey", "beige", "green", "brown"], 0.6
    )
    b.box([0, 0, -0.5], [2 * half, 2 * AROUND, 1.0], road)
    for side in (-1, 1):
        b.box([side * (half + AROUND / 2), 0, -0.44], [AROUND, 2 * AROUND, 1.12], pavement)
    paint = d.material("plaster", np.array([0.85, 0.84, 0.8]))
    if rng.random() < 0.7:
        for y in np.arange(-18, length - 20, 4.0):
            b.box([0, y, 0.0], [0.14, 1.8, 0.016], paint)
    walls = [_row(d, side * (half + side_width), length, side) for side in (-1, 1)]
    if rng.random() < 0.4:
        b.box([0, length - 12, 5], [40, 6, rng.uniform(8, 14)], d.facade(d.colour()[1]))
    _surroundings(d, length)
    lamps = []
    for side in (-1, 1):
        for y in np.arange(-6, min(length - 25, 50), rng.uniform(4, 8)):
            at = np.array([side * (half + min(0.7, side_width / 2)), y + rng.uniform(-1, 1), 0.12])
            name = d.thing(["lamp post", "tree", "tree", "bench", "planter", "pine", "bush"])
            _street_thing(d, name, at)
            if name in ("lamp post", "street lantern"):
                lamps.append(at)
            if rng.random() < 0.4:
                _street_thing(d, d.thing(["car"]), np.array([side * (half - 1.0), y + 2.8, 0.0]))
    return Layout(
        surfaces={"houses": (walls[0], ""), "road": (colour, kind), "pavement": (side_colour, side_kind)},
        lamps=_lamp_heads(d, lamps, time),
        walk=np.array([[-half * 0.8 - side_width * 0.4, -8, 1.2], [half * 0.8 + side_width * 0.4, 0, 2.2]]),
        look=np.array([[-half - side_width, 4.0, 0.5], [half + side_width, 18.0, 4.0]]),
        heading=np.array([0.0, 1.0]), reach=22.0, shots=("drive", "walk", "dolly", "drone", "orbit", "close"),
        stage=np.array([[-half * 0.55, 2.0], [half * 0.55, 30.0]]), lane=True,
    )  # fmt: skip


def _surroundings(d: SplitDecorator, near: float) -> None:
    """What stands far away all around: trees and buildings."""
    rng = d.rng
    leaves, trunk = d.material("mottled", d.colour(["green"])[1]), d.material("mottled", d.colour(["brown"])[1])
    walls, trees = [d.facade(d.colour(PLAIN)[1]) for _ in range(2)], rng.random()
    for _ in range(int(rng.integers(10, 40))):
        angle, far = rng.uniform(0, 2 * np.pi), near * np.exp(rng.uniform(0.1, 1.2))
        at = np.array([far * np.cos(angle), far * np.sin(angle), 0.0])
        if rng.random() < trees:
            STREET[d.thing(["tree", "pine"])](d.builder, at, rng.uniform(1.5, 4), angle, leaves, trunk)
        else:
            size = rng.uniform([8, 8, 6], [30, 15, 40])
            d.builder.box(at + [0, 0, size[2] / 2], size, walls[int(rng.integers(2))], angle + np.pi / 2)


def _row(d: SplitDecorator, edge: float, length: float, side: int) -> str:
    """Houses along a pavement, some with a gap; returns the first one's colour."""
    rng, first, y = d.rng, "", -22.0
    low, gaps = rng.uniform(2.8, 8), rng.choice([0.0, 0.3, 0.8])
    while y < length - 22:
        width, depth, height = rng.uniform([6, 6, low], [13, 9, 2.2 * low])
        name, colour = d.colour(["beige", "white", "grey", "red", "orange", "brown", "yellow", "teal"])
        first = first or name
        x = edge + side * (depth / 2 + rng.choice([0.0, 0.0, rng.uniform(0, 2)]))
        d.builder.box([x, y + width / 2, height / 2], [depth, width, height], d.facade(colour))
        if rng.random() < 0.6:
            roof = d.surface(["bricks", "planks"], ["red", "brown", "grey"], beside=name)[2]
            if rng.random() < 0.5:
                d.builder.roof([x, y + width / 2, height], [width, depth + 0.6, 2.2], roof, np.pi / 2)
            else:
                d.builder.box([x, y + width / 2, height + 0.2], [depth + 0.6, width, 0.4], roof)
        y += width + (rng.uniform(1, 8) if rng.random() < gaps else 0)
    return first


def _street_thing(d: SplitDecorator, name: str, at: Array) -> None:
    """One of them, in drawn colours and size."""
    green = name in GREEN
    _, colour, main = d.surface(
        ["mottled"] if green else ["plaster", "mottled", "stripes"],
        ["green", "green", "green", "brown", "orange"] if green else None,
    )
    second = d.surface(["mottled", "planks"], ["brown", "grey", "black"], beside=colour)[2]
    size, yaw = d.rng.uniform(0.8, 1.25), d.rng.uniform(-0.6, 0.6)
    with d.placing(name, colour, at):
        STREET[name](d.builder, at, size, yaw, main, second)


def _lamp_heads(d: SplitDecorator, posts: list[Array], time: str) -> list[Source]:
    """The light of lamp posts: of the few that stand nearest. All glow when it is dark."""
    nearest = sorted(posts, key=lambda p: abs(p[1] - 4))[:5]
    if time in ("dusk", "night"):
        glow = d.material("plaster", LAMPLIGHT, emission=1.0)
        for post in posts:
            d.builder.sphere(post + [0, 0, 3.5], 0.265, glow)
    return [Source(p + [0, 0, 3.5], 2.6 * LAMPLIGHT, radius=0.28) for p in nearest]


def plaza(d: SplitDecorator, time: str) -> Layout:
    """An open place between buildings, or a park with few of them."""
    rng = d.rng
    kind, colour, ground = d.surface(
        ["tiles", "bricks", "mottled", "checker", "paving", "lawn"], ["grey", "beige", "brown", "green", "red"], 0.5
    )
    d.builder.box([0, 10, -0.5], [2 * AROUND, 2 * AROUND, 1.0], ground)
    wall = _buildings(d, rng.choice([0.2, 0.7, 1.0]))
    _surroundings(d, 40)
    placed: list[Array] = []
    for _ in range(int(rng.integers(6, 22))):
        at = np.array([*rng.uniform([-8, -3], [8, 12]), 0.0])
        if np.hypot(at[0], at[1] + 6) > 2.5 and all(np.linalg.norm(at - p) > 1.8 for p in placed):
            placed.append(at)
            _street_thing(d, d.thing(["tree", "tree", "pine", "bench", "lamp post", "monument", "kiosk", "planter",
                                      "bush", "rock", "car"]), at)  # fmt: skip
    posts = [t.at for t in d.things if t.name in ("lamp post", "street lantern")]
    if not posts:
        posts = [np.array([rng.uniform(-5, 5), -1.5, 0.0])]
        _street_thing(d, d.thing(["lamp post"]), posts[0])
    return Layout(
        surfaces={"ground": (colour, kind), "buildings": (wall, "")}, lamps=_lamp_heads(d, posts, time),
        walk=np.array([[-4.0, -7.0, 1.0], [4.0, -3.0, 2.4]]), look=np.array([[-4.0, 1.0, 0.2], [4.0, 9.0, 2.5]]),
        heading=np.array([0.0, 1.0]), reach=8.0, shots=("dolly", "walk", "orbit", "drone", "close"),
        stage=np.array([[-4.5, -1.0], [4.5, 7.0]]),
    )  # fmt: skip


def _buildings(d: SplitDecorator, share: float) -> str:
    """Facades behind and beside the place, each with that probability; returns the colour of the first."""
    rng, first = d.rng, ""
    spots = [(x, 14) for x in np.linspace(-14, 14, int(rng.integers(4, 6)))] + [
        (s * 13, y) for s in (-1, 1) for y in (2, 9)
    ]
    for i, (x, y) in enumerate(spots):
        if i and rng.random() > share:
            continue
        name, colour = d.colour(["beige", "white", "grey", "red", "orange", "brown", "yellow"])
        first = first or name
        size = rng.uniform([4, 4, 3], [8, 7, 12])
        x, y = x + rng.uniform(-1, 1), y + rng.uniform(-1, 2)
        d.builder.box([x, y, size[2] / 2], size, d.facade(colour))
        if rng.random() < 0.5:
            roof = d.material("bricks", d.colour(["red", "brown", "grey"])[1])
            if rng.random() < 0.5:
                d.builder.roof([x, y, size[2]], [size[0] + 0.5, size[1] + 0.5, 2.0], roof)
            else:
                d.builder.box([x, y, size[2] + 0.2], [size[0] + 0.5, size[1] + 0.5, 0.4], roof)
    return first


BIOMES = {
    # ground textures and colours, the colours of leaves, what stands about
    "meadow": (["lawn", "mottled"], ["green"], ["green", "green", "teal"], ["tree", "tree", "pine", "bush", "rock"]),
    "autumn": (
        ["lawn", "mottled"],
        ["brown", "orange"],
        ["orange", "red", "yellow", "green"],
        ["tree", "bush", "rock"],
    ),
    "desert": (["gravel", "mottled"], ["beige", "orange"], ["green", "teal"], ["rock", "rock", "bush"]),
    "snow": (["plaster", "gravel"], ["white"], ["green", "teal", "white"], ["pine", "pine", "rock"]),
}
BIOME_SHARES = (0.5, 0.2, 0.2, 0.1)
HALF = 70.0  # metres from the middle to where things end
SPREAD = np.concatenate([np.linspace(0.55, 3, 5), np.geomspace(4, AROUND, 42)])  # from the middle of the path


def terrain(d: SplitDecorator, time: str) -> Layout:
    """Hills with a path, trees and rocks, and perhaps a hut."""
    rng, b = d.rng, d.builder
    biome = str(rng.choice(list(BIOMES), p=BIOME_SHARES))
    textures, colours, leaves, things = BIOMES[biome]
    height, path = _hills(rng)
    kind, colour, soil = d.surface(textures, colours, 0.5)
    path_kind, path_colour, dirt = d.surface(["gravel", "mottled", "paving"], ["beige", "brown", "grey"], beside=colour)
    if rng.random() < 0.4:
        dirt = soil
    across = np.concatenate([-SPREAD[::-1], SPREAD])
    away = np.geomspace(42, AROUND, 12)
    y = np.concatenate([-away[::-1], np.linspace(-40, 40, 66), away])
    xy = np.stack([across[None] + path(y)[:, None], np.broadcast_to(y[:, None], (len(y), len(across)))], -1)
    on_path = np.abs(across[:-1] + across[1:]) < 2.2
    b.heightfield(
        np.concatenate([xy, height(xy)[..., None]], -1), np.where(on_path, dirt, soil)[None].repeat(len(y) - 1, 0)
    )
    looks = []
    for _ in range(3):
        leaf = d.surface(["mottled"], leaves)
        second = d.surface(["mottled", "planks"], ["brown", "grey", "black"], beside=leaf[1])[2]
        stone = d.surface(["mottled"], ["grey", "brown", "beige"], beside=colour)
        looks.append((leaf, second, stone))
    for number in range(int(rng.integers(30, 150))):
        spread = 14 if number < 30 else HALF * 0.8
        xy = rng.uniform([-spread, -4], [spread, 4 + 1.6 * spread]).clip(-HALF + 3, HALF - 3)
        if abs(xy[0] - path(xy[1])) < 1.8 or np.hypot(xy[0], xy[1] + 8) < 3:
            continue
        leaf, second, stone = looks[rng.integers(3)]
        name = d.thing(things)
        look = stone if name in ("rock", "cairn") else leaf
        at = np.array([*xy, height(xy) - 0.08])
        with d.placing(name, look[1], at):
            STREET[name](b, at, rng.uniform(0.5, 2.2), rng.uniform(0, 6), look[2], second)
    if rng.random() < 0.4:
        y = rng.uniform(10, 22)
        xy = np.array([path(y) + rng.choice([-1, 1]) * rng.uniform(4.5, 8), y])
        _street_thing(d, d.thing(["hut"]), np.array([*xy, height(xy)]))
    walk = np.array([[-1.5, -10.0, 0.8], [1.5, -6.0, 2.2]]) + [path(-8.0), 0, 0]
    return Layout(
        surfaces={"ground": (colour, kind), "path": (path_colour, path_kind)},
        walk=walk, look=np.array([[-6.0, 1.0, 0.0], [6.0, 12.0, 3.0]]),
        heading=np.array([path(6.0) - path(-6.0), 12.0]) / np.hypot(path(6.0) - path(-6.0), 12.0),
        reach=12.0, shots=("walk", "orbit", "drone", "drone", "dolly", "close"),
        stage=np.array([[path(0.0) - 2.0, -2.0], [path(10.0) + 2.0, 12.0]]), ground=height,
        landscape=biome,
    )  # fmt: skip


def _hills(rng: Rng) -> tuple[Ground, Curve]:
    """The height of the ground at places [..., 2], flat along a path and rising outwards; x of the path at y."""
    waves = [
        (rng.normal(0, 1, 2) / scale, rng.uniform(0, 2 * np.pi), 0.055 * scale * rng.uniform(0.3, 1))
        for scale in (4, 6, 9, 14, 20, 28)
    ]
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


PLACES: dict[str, Callable[[SplitDecorator, str], Layout]] = {
    "room": room, "corridor": corridor, "street": street, "plaza": plaza, "terrain": terrain,
}  # fmt: skip
