"""The places of the large world: rooms, corridors, streets, plazas and open terrain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gen3r.data.synthetic.lights import Source
from gen3r.data.synthetic.meshes import Array
from gen3r.data.synthetic.objects import FURNITURE, STREET
from gen3r.data.synthetic.splits import SplitDecorator
from gen3r.data.synthetic.textures import Rng
from gen3r.data.synthetic.time_and_weather import LAMPLIGHT, daylight
from gen3r.data.synthetic.worlds import (
    buildings,
    ceiling_lamps,
    furnish,
    plaza_ground,
    plaza_view,
    room_shell,
    room_view,
    street_furniture,
    street_thing,
    wall_pieces,
)

Ground = Callable[[Array], Array]
Curve = Callable[[Any], Any]


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


def large_room(d: SplitDecorator, time: str) -> Layout:
    """A furnished room with lamps, a window and images."""
    rng = d.rng
    size = rng.uniform([3.6, 4.0, 2.4], [7.5, 8.5, 3.4])
    w, depth, h = size
    floor, wall = room_shell(d, size)
    window = wall_pieces(d, size, _glass(d, time))
    furnish(d, size)
    count = int(rng.integers(1, 4))
    points = [np.array([rng.uniform(-w, w) * 0.3, rng.uniform(-depth, depth) * 0.3, h - 0.3]) for _ in range(count)]
    ceiling_lamps(d, points, 0.18)
    lamps, ambient = _indoor_light(rng, time, points, window - [0, 0.4, 0])
    walk, look = room_view(size)
    return Layout(
        surfaces={"walls": wall, "floor": floor}, lamps=lamps, ambient=ambient, walk=walk, look=look,
        heading=np.array([0.0, 1.0]), reach=depth * 0.45, shots=("dolly", "walk", "orbit"),
        stage=np.array([[-w / 2 + 0.5, -depth * 0.15], [w / 2 - 0.5, depth * 0.4]]),
    )  # fmt: skip


def corridor(d: SplitDecorator, time: str) -> Layout:
    """A long passage with doors, images, lamps, and things along its walls."""
    rng, b = d.rng, d.builder
    w, length, h = rng.uniform([2.0, 14, 2.4], [3.4, 28, 3.4])
    floor_kind, floor_colour, floor = d.surface(["planks", "tiles", "checker", "marble"])
    kind, colour, wall = d.surface(["plaster", "stripes", "bricks", "marble"], scale=0.6, beside=floor_colour)
    ceiling = d.surface(["plaster", "planks"], ["white", "beige", "grey"])[2]
    y = length / 2 - 3
    b.box([0, y, -0.05], [w, length, 0.1], floor)
    b.box([0, y, h + 0.05], [w, length, 0.1], ceiling)
    for side in (-1, 1):
        b.box([side * (w + 0.1) / 2, y, h / 2], [0.1, length, h], wall)
    for end in (-3, length - 3):
        b.box([0, end, h / 2], [w, 0.1, h], wall)
    door_colour = d.surface(["planks", "plaster"], beside=colour)
    frame = d.surface(["plaster"], ["white", "brown", "black"])[2]
    _door(d, np.array([0, length - 3.05, 0]), 0, door_colour[2], frame)
    bays = np.arange(0, length - 5, rng.uniform(2.2, 3.5))
    glass = _glass(d, time)
    windows = rng.random() < 0.4
    for bay in bays:
        for side in (-1, 1):
            at = np.array([side * w / 2, bay + rng.uniform(-0.3, 0.3), 0])
            if windows and side == 1:
                b.box(at + [0, 0, h * 0.55], [0.06, 1.2, h * 0.45], glass)
            elif rng.random() < 0.45:
                _door(d, at, 1, door_colour[2], frame)
            elif rng.random() < 0.6:
                picture = d.material("painting", d.colour()[1])
                b.box(at + [0, 0, h * 0.58], [0.06, rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.8)], picture)
            else:
                _beside_wall(d, at - [side * 0.32, 0, 0])
    every = max(2, len(bays) // 4)
    points = [np.array([0.0, bay, h - 0.25]) for bay in bays[::every]]
    ceiling_lamps(d, points, 0.15)
    lamps, ambient = _indoor_light(rng, time, points, np.array([w * 0.4, bays[1], h * 0.55]) if windows else None)
    return Layout(
        surfaces={"walls": (colour, kind), "floor": (floor_colour, floor_kind)}, lamps=lamps, ambient=ambient,
        walk=np.array([[-w * 0.15, -2.4, 1.2], [w * 0.15, 0.5, 1.8]]),
        look=np.array([[-w * 0.3, 5.0, 0.8], [w * 0.3, 9.0, 1.6]]),
        heading=np.array([0.0, 1.0]), reach=min(6.0, length - 9), shots=("dolly", "walk"),
        stage=np.array([[-w / 2 + 0.6, 2.5], [w / 2 - 0.6, length - 5]]), lane=True,
    )  # fmt: skip


def _door(d: SplitDecorator, at: Array, axis: int, door: int, frame: int) -> None:
    """A door in a wall whose length runs along that axis."""
    along, through = np.eye(3)[axis], np.eye(3)[1 - axis]
    d.builder.box(at + [0, 0, 1.0], 0.9 * along + 0.08 * through + [0, 0, 2.0], door)
    d.builder.box(at + [0, 0, 2.06], 1.1 * along + 0.12 * through + [0, 0, 0.12], frame)
    for side in (-0.5, 0.5):
        d.builder.box(at + side * along + [0, 0, 1.03], 0.1 * along + 0.12 * through + [0, 0, 2.06], frame)


def _beside_wall(d: SplitDecorator, at: Array) -> None:
    name = d.thing(["plant", "chair", "lamp"])
    _, colour, main = d.surface(["plaster", "mottled", "plaid"])
    second = d.surface(["plaster", "planks"], ["brown", "black", "white", "grey"], beside=colour)[2]
    with d.placing(name, colour, at):
        FURNITURE[name][1](d.builder, at, np.array(FURNITURE[name][0]), 0.0, main, second)


def _glass(d: SplitDecorator, time: str) -> int:
    """The material of a window from inside."""
    return d.material("plaster", np.clip(1.1 * daylight(time), 0.02, 1), emission=0.92)


def _indoor_light(rng: Rng, time: str, points: list[Array], window: Array | None) -> tuple[list[Source], Array]:
    """Lamps, brighter when it is dark outside, light from the window, and the ambient light."""
    outside = daylight(time)
    dark = outside.mean() < 0.4
    warm = np.array([1.0, rng.uniform(0.82, 1.0), rng.uniform(0.6, 0.95)])
    strength = rng.uniform(1.0, 1.5) if dark else rng.uniform(0.6, 1.1)
    lamps = [Source(p, warm * strength / len(points) ** 0.7, radius=0.14) for p in points]
    if window is not None and not dark:
        lamps.append(Source(window, 1.1 * outside, radius=0.5))
    ambient = rng.uniform(0.26, 0.36) * (warm if dark else 0.5 * (warm + outside / outside.mean()))
    return lamps, ambient


def street(d: SplitDecorator, time: str) -> Layout:
    """A road between houses, with parked cars, trees and lamps on the pavements."""
    rng, b = d.rng, d.builder
    half, side_width, length = rng.uniform([2.8, 2.0, 70], [4.8, 4.0, 110])
    kind, colour, road = d.surface(["mottled", "gravel", "cobbles"], ["grey", "black"], 0.5)
    side_kind, side_colour, pavement = d.surface(["tiles", "bricks", "paving"], ["grey", "beige", "red", "brown"], 0.6)
    middle = length / 2 - 20
    b.box([0, middle, -0.5], [2 * half, length + 60, 1.0], road)
    for side in (-1, 1):
        b.box([side * (half + 30), middle, -0.44], [60, length + 60, 1.12], pavement)
    paint = d.material("plaster", np.array([0.85, 0.84, 0.8]))
    for y in np.arange(-18, length - 20, 4.0):
        b.box([0, y, 0.0], [0.14, 1.8, 0.016], paint)
    walls = [_row(d, side * (half + side_width), length, side) for side in (-1, 1)]
    if rng.random() < 0.6:
        b.box([0, length - 12, 5], [40, 6, rng.uniform(8, 14)], d.facade(d.colour()[1]))
    lamps = []
    for side in (-1, 1):
        for y in np.arange(-6, min(length - 25, 50), rng.uniform(5, 8)):
            at = np.array([side * (half + 0.7), y + rng.uniform(-1, 1), 0.12])
            name = d.thing(["lamp post", "tree", "bench", "planter", "pine"])
            street_thing(d, name, at)
            if name in ("lamp post", "street lantern"):
                lamps.append(at)
            if rng.random() < 0.4:
                street_thing(d, d.thing(["car"]), np.array([side * (half - 1.0), y + 2.8, 0.0]))
    return Layout(
        surfaces={"houses": (walls[0], ""), "road": (colour, kind), "pavement": (side_colour, side_kind)},
        lamps=_lamp_heads(d, lamps, time),
        walk=np.array([[-half * 0.5, -7, 1.3], [half * 0.5, -2, 2.2]]),
        look=np.array([[-half, 5.0, 0.8], [half, 16.0, 3.0]]),
        heading=np.array([0.0, 1.0]), reach=22.0, shots=("drive", "walk", "dolly", "drone", "orbit"),
        stage=np.array([[-half * 0.55, 2.0], [half * 0.55, 30.0]]), lane=True,
    )  # fmt: skip


def _row(d: SplitDecorator, edge: float, length: float, side: int) -> str:
    """Houses along a pavement, some with a gap; returns the first one's colour."""
    rng, first, y = d.rng, "", -22.0
    while y < length - 22:
        width, depth, height = rng.uniform([6, 6, 4], [13, 9, 17])
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
        y += width + rng.choice([0.0, 0.0, 0.0, rng.uniform(1, 4)])
    return first


def _lamp_heads(d: SplitDecorator, posts: list[Array], time: str) -> list[Source]:
    """The light of lamp posts: of the few that stand nearest. All glow when it is dark."""
    nearest = sorted(posts, key=lambda p: abs(p[1] - 4))[:5]
    if time in ("dusk", "night"):
        glow = d.material("plaster", LAMPLIGHT, emission=1.0)
        for post in posts:
            d.builder.sphere(post + [0, 0, 3.5], 0.265, glow)
    return [Source(p + [0, 0, 3.5], 2.6 * LAMPLIGHT, radius=0.28) for p in nearest]


def large_plaza(d: SplitDecorator, time: str) -> Layout:
    """An open place between buildings."""
    ground = plaza_ground(d)
    wall = buildings(d)
    street_furniture(d)
    posts = [t.at for t in d.things if t.name in ("lamp post", "street lantern")]
    if not posts:
        posts = [np.array([d.rng.uniform(-5, 5), -1.5, 0.0])]
        street_thing(d, d.thing(["lamp post"]), posts[0])
    walk, look = plaza_view()
    return Layout(
        surfaces={"ground": ground, "buildings": (wall, "")}, lamps=_lamp_heads(d, posts, time), walk=walk, look=look,
        heading=np.array([0.0, 1.0]), reach=7.0, shots=("dolly", "walk", "orbit", "drone"),
        stage=np.array([[-4.5, -1.0], [4.5, 7.0]]),
    )  # fmt: skip


BIOMES = {
    # ground textures and colours, the colours of leaves, what stands about
    "meadow": (["lawn", "mottled"], ["green"], ["green", "teal"], ["tree", "pine", "bush", "rock"]),
    "autumn": (["lawn", "mottled"], ["brown", "orange"], ["orange", "red", "yellow"], ["tree", "bush", "rock"]),
    "desert": (["gravel", "mottled"], ["beige", "orange"], ["green", "teal"], ["rock", "rock", "bush"]),
    "snow": (["plaster", "gravel"], ["white"], ["green", "teal", "white"], ["pine", "pine", "rock"]),
}
HALF = 70.0  # metres of half a side
SPREAD = np.concatenate([np.linspace(0.55, 3, 5), np.geomspace(4, HALF, 40)])  # from the middle of the path


def terrain(d: SplitDecorator, time: str) -> Layout:
    """Hills with a path, trees and rocks, and perhaps a hut."""
    rng, b = d.rng, d.builder
    biome = str(rng.choice(list(BIOMES)))
    textures, colours, leaves, things = BIOMES[biome]
    height, path = _hills(rng)
    kind, colour, soil = d.surface(textures, colours, 0.5)
    path_kind, path_colour, dirt = d.surface(["gravel", "mottled", "paving"], ["beige", "brown", "grey"], beside=colour)
    across = np.concatenate([-SPREAD[::-1], SPREAD])
    y = np.linspace(-HALF, HALF, 2 * len(SPREAD))
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
    for number in range(int(rng.integers(40, 120))):
        spread = 14 if number < 20 else HALF * 0.8
        xy = rng.uniform([-spread, -4], [spread, 4 + 1.6 * spread]).clip(-HALF + 3, HALF - 3)
        if abs(xy[0] - path(xy[1])) < 2.6 or np.hypot(xy[0], xy[1] + 5) < 3:
            continue
        leaf, second, stone = looks[rng.integers(3)]
        name = d.thing(things)
        look = stone if name in ("rock", "cairn") else leaf
        at = np.array([*xy, height(xy) - 0.08])
        with d.placing(name, look[1], at):
            _plant(d, name, at, look[2], second)
    if rng.random() < 0.4:
        y = rng.uniform(10, 22)
        xy = np.array([path(y) + rng.choice([-1, 1]) * rng.uniform(4.5, 8), y])
        street_thing(d, d.thing(["hut"]), np.array([*xy, height(xy)]))
    walk = np.array([[-1.0, -10.0, 1.3], [1.0, -6.0, 2.2]]) + [path(-8.0), 0, 0]
    return Layout(
        surfaces={"ground": (colour, kind), "path": (path_colour, path_kind)},
        walk=walk, look=np.array([[-4.0, 3.0, 0.0], [4.0, 12.0, 2.0]]),
        heading=np.array([path(6.0) - path(-6.0), 12.0]) / np.hypot(path(6.0) - path(-6.0), 12.0),
        reach=12.0, shots=("walk", "orbit", "drone", "drive", "dolly"),
        stage=np.array([[path(0.0) - 2.0, -2.0], [path(10.0) + 2.0, 12.0]]), ground=height,
        landscape=biome,
    )  # fmt: skip


def _plant(d: SplitDecorator, name: str, at: Array, main: int, second: int) -> None:
    STREET[name](d.builder, at, d.rng.uniform(0.7, 1.7), d.rng.uniform(0, 6), main, second)


def _hills(rng: Rng) -> tuple[Ground, Curve]:
    """The height of the ground at places [..., 2], flat along a path and rising outwards; x of the path at y."""
    waves = [
        (rng.normal(0, 1, 2) / scale, rng.uniform(0, 2 * np.pi), 0.055 * scale * rng.uniform(0.3, 1))
        for scale in (4, 6, 9, 14, 20, 28)
    ]
    bend, period = rng.uniform(1, 6), rng.uniform(18, 40)
    rise = rng.uniform(0, 14)

    def path(y: Any) -> Any:
        return bend * np.sin(y / period * 2)

    def height(xy: Array) -> Array:
        z = sum(a * np.sin(xy @ k + phase) for k, phase, a in waves)
        away = np.clip(np.abs(xy[..., 0] - path(xy[..., 1])) / 9, 0, 1)
        far = np.clip((np.linalg.norm(xy, axis=-1) - 25) / 45, 0, 1)
        return z * (0.2 + 0.8 * away) + rise * far * far

    return height, path


PLACES: dict[str, Callable[[SplitDecorator, str], Layout]] = {
    "room": large_room, "corridor": corridor, "street": street, "plaza": large_plaza, "terrain": terrain,
}  # fmt: skip
