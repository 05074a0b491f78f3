"""Two kinds of place, a room and a plaza, each drawn from a seeded generator.

A `World` holds the triangles with their looks, the light, where a camera may walk and what it may look at.
"""

from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.decorator import Decorator
from gen3r.data.synthetic.lights import Lights, Sky, Source
from gen3r.data.synthetic.meshes import Array, MeshBuilder
from gen3r.data.synthetic.objects import FURNITURE, GREEN, PLAZA_THINGS, ROOM_THINGS, STREET
from gen3r.data.synthetic.textures import Atlas, Rng


@dataclass(frozen=True)
class World:
    """A place ready to be rendered. `walk` and `look` are boxes [2, 3] for the camera and its target."""

    builder: MeshBuilder
    atlas: Atlas
    lights: Lights
    sky: Sky
    walk: Array
    look: Array
    caption: str


def room(rng: Rng) -> World:
    """A furnished room with one or two lamps, a window and images."""
    d = Decorator(rng)
    size = rng.uniform([3.6, 4.0, 2.4], [6.5, 7.5, 3.2])
    w, depth, h = size
    floor, wall = room_shell(d, size)
    glass = d.material("painting", np.array([0.75, 0.85, 0.95]), emission=0.8)
    wall_pieces(d, size, glass)
    furnish(d, size)
    count = int(rng.integers(1, 3))
    points = [np.array([rng.uniform(-w, w) * 0.25, rng.uniform(-depth, depth) * 0.25, h - 0.35]) for _ in range(count)]
    ceiling_lamps(d, points, 0.23)
    warm = np.array([1.0, rng.uniform(0.86, 1.0), rng.uniform(0.7, 1.0)])
    ambient = rng.uniform(0.38, 0.5)
    colour = warm * rng.uniform(1.1, 1.6) / count
    lights = Lights(tuple(Source(p, colour) for p in points), ambient * warm, 0.8 * ambient * warm)
    caption = _room_caption(rng, *wall, *floor, _names(d))
    walk, look = room_view(size)
    return World(d.builder, Atlas(d.textures), lights, Sky(np.ones(3), np.ones(3), 0.0), walk, look, caption)


def room_view(size: Array) -> tuple[Array, Array]:
    """Where a camera in a room of that size starts, and what it looks at: boxes [2, 3]."""
    w, depth, _ = size
    walk = np.array([[-w * 0.28, -depth * 0.42, 1.0], [w * 0.28, -depth * 0.12, 1.8]])
    look = np.array([[-w * 0.25, depth * 0.1, 0.5], [w * 0.25, depth * 0.5, 1.4]])
    return walk, look


def room_shell(d: Decorator, size: Array) -> tuple[tuple[str, str], tuple[str, str]]:
    """Floor, ceiling and walls about the origin; (colour, kind) of the floor and of the walls."""
    b, (w, depth, h) = d.builder, size
    floor_kind, floor_colour, floor = d.surface(
        ["planks", "tiles", "checker", "mottled"], ["brown", "beige", "grey", "white"]
    )
    wall_kind, wall_colour, wall = d.surface(
        ["plaster", "plaster", "stripes", "bricks", "mottled"], scale=0.6, beside=floor_colour
    )
    other = wall if d.rng.random() < 0.5 else d.surface(["plaster", "bricks", "stripes", "planks"], scale=0.6)[2]
    ceiling = d.surface(["plaster"], ["white", "beige"])[2]
    t = 0.1
    b.box([0, 0, -t / 2], [w, depth, t], floor)
    b.box([0, 0, h + t / 2], [w, depth, t], ceiling)
    for x in (-1, 1):
        b.box([x * (w + t) / 2, 0, h / 2], [t, depth, h], wall)
    b.box([0, (depth + t) / 2, h / 2], [w, t, h], other)
    b.box([0, -(depth + t) / 2, h / 2], [w, t, h], wall)
    return (floor_colour, floor_kind), (wall_colour, wall_kind)


def wall_pieces(d: Decorator, size: Array, glass: int) -> Array:
    """A window of material `glass` in the back wall, at the place returned, and images on the side walls."""
    rng, b, (w, depth, h) = d.rng, d.builder, size
    window = np.array([rng.uniform(-0.25, 0.25) * w, depth / 2, h * 0.58])
    b.box(window, [rng.uniform(0.8, 1.6), 0.06, rng.uniform(0.8, 1.2)], glass)
    for side in (-1, 1):
        picture = d.material("painting", d.colour()[1])
        y = rng.uniform(-0.1, 0.4) * depth
        b.box([side * w / 2, y, h * 0.58], [0.06, rng.uniform(0.5, 1.2), rng.uniform(0.4, 0.9)], picture)
    return window


def ceiling_lamps(d: Decorator, points: list[Array], above: float) -> None:
    """A flat glowing ball over each lamp's place."""
    lamp = d.material("plaster", np.array([1.0, 0.97, 0.88]), emission=1.0)
    for p in points:
        d.builder.sphere([p[0], p[1], p[2] + above], 0.13, lamp, 0.6)


def furnish(d: Decorator, size: Array) -> None:
    """Furniture in the far half of a room, without overlap."""
    rng, b, (w, depth, _) = d.rng, d.builder, size
    placed = []
    _, rug_colour, rug = d.surface(["mottled", "checker", "stripes"], scale=1.2)
    if rng.random() < 0.6:
        at = np.array([rng.uniform(-0.5, 0.5), depth * 0.12, 0.01])
        with d.placing("rug", rug_colour, at):
            b.box(at, [rng.uniform(1.4, 2.4), rng.uniform(1.2, 2.2), 0.02], rug)
    for _ in range(int(rng.integers(4, 8))):
        name = d.thing(ROOM_THINGS)
        extent = np.array(FURNITURE[name][0]) * rng.uniform(0.85, 1.15, 3)
        x, y = (
            rng.uniform(-w / 2 + extent[0] / 2 + 0.1, w / 2 - extent[0] / 2 - 0.1),
            rng.uniform(0.0, depth / 2 - extent[1] / 2 - 0.05),
        )
        radius = np.hypot(*extent[:2]) / 2
        if any(np.hypot(x - px, y - py) < radius + pr for px, py, pr in placed):
            continue
        placed.append((x, y, radius))
        _, colour, main = d.surface(["plaster", "mottled", "planks", "stripes"])
        second = d.surface(["plaster", "planks"], ["brown", "black", "beige", "white", "grey"], beside=colour)[2]
        at = np.array([x, y, 0.0])
        with d.placing(name, colour, at):
            FURNITURE[name][1](b, at, extent, rng.uniform(-0.4, 0.4), main, second)


def plaza(rng: Rng) -> World:
    """An open place between buildings, with trees, benches, lamp posts and monuments under a sky."""
    d = Decorator(rng)
    ground = plaza_ground(d)
    wall_colour = buildings(d)
    street_furniture(d)
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.45, 1.2)
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    warm = np.array([1.0, 0.95, 0.72 + 0.2 * elevation])
    horizon, zenith = (
        rng.uniform([0.75, 0.78, 0.8], [0.92, 0.92, 0.95]),
        rng.uniform([0.3, 0.5, 0.75], [0.5, 0.68, 0.92]),
    )
    shade = rng.uniform(0.45, 0.58)
    source = Source(sun, warm * rng.uniform(0.5, 0.8), sun=True)
    lights = Lights((source,), shade * zenith**0.3, shade * 0.7 * horizon)
    weather = "a cloudy" if (clouds := rng.uniform(0, 0.8)) > 0.4 else "a clear"
    caption = _plaza_caption(rng, *ground, wall_colour, _names(d), weather)
    walk, look = plaza_view()
    return World(d.builder, Atlas(d.textures), lights, Sky(horizon, zenith, clouds), walk, look, caption)


def plaza_view() -> tuple[Array, Array]:
    """Where a camera on a plaza starts, and what it looks at: boxes [2, 3]."""
    return np.array([[-2.0, -6.0, 1.4], [2.0, -4.0, 2.6]]), np.array([[-1.5, 2.0, 0.6], [1.5, 6.0, 2.0]])


def plaza_ground(d: Decorator) -> tuple[str, str]:
    """The ground; its (colour, kind)."""
    kind, colour, ground = d.surface(
        ["tiles", "bricks", "mottled", "checker"], ["grey", "beige", "brown", "green", "red"], 0.5
    )
    d.builder.box([0, 10, -0.5], [90, 90, 1.0], ground)
    return colour, kind


def buildings(d: Decorator) -> str:
    """Facades behind and beside the place; returns the colour of the first."""
    rng, first = d.rng, ""
    for x in np.linspace(-14, 14, int(rng.integers(4, 6))):
        name, colour = d.colour(["beige", "white", "grey", "red", "orange", "brown", "yellow"])
        first = first or name
        size = np.array([rng.uniform(5, 8), 6.0, rng.uniform(4, 11)])
        centre = [x + rng.uniform(-1, 1), rng.uniform(12, 16), size[2] / 2]
        d.builder.box(centre, size, d.facade(colour))
        if rng.random() < 0.5:
            roof = d.material("bricks", d.colour(["red", "brown", "grey"])[1])
            d.builder.box([centre[0], centre[1], size[2] + 0.2], [size[0] + 0.5, 6.5, 0.4], roof)
    for side in (-1, 1):
        for y in (2, 9):
            if rng.random() < 0.7:
                size = np.array([6.0, rng.uniform(4, 7), rng.uniform(3, 9)])
                centre = [side * rng.uniform(9, 12), y + rng.uniform(-1, 1), size[2] / 2]
                d.builder.box(centre, size, d.facade(d.colour()[1]))
    return first


def street_furniture(d: Decorator) -> None:
    """Trees, benches and the like on the place, two metres apart."""
    rng, placed = d.rng, []
    for _ in range(int(rng.integers(6, 12))):
        at = np.array([rng.uniform(-6, 6), rng.uniform(0, 10), 0.0])
        if any(np.linalg.norm(at - p) < 2.0 for p in placed):
            continue
        placed.append(at)
        street_thing(d, d.thing(PLAZA_THINGS), at)


def street_thing(d: Decorator, name: str, at: Array) -> None:
    """One of them, in drawn colours and size."""
    green = name in GREEN
    _, colour, main = d.surface(
        ["mottled"] if green else ["plaster", "mottled", "stripes"], ["green", "teal", "orange"] if green else None
    )
    second = d.surface(["mottled", "planks"], ["brown", "grey", "black"], beside=colour)[2]
    size, yaw = d.rng.uniform(0.8, 1.25), d.rng.uniform(-0.6, 0.6)
    with d.placing(name, colour, at):
        STREET[name](d.builder, at, size, yaw, main, second)


def _names(d: Decorator) -> list[str]:
    return [f"a {thing.colour} {thing.name}" for thing in d.things]


def _join(things: list[str]) -> str:
    things = sorted(set(things))[:4]
    return (
        things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1] if things else "nothing else"
    )


def _room_caption(rng: Rng, wall: str, wall_kind: str, floor: str, floor_kind: str, things: list[str]) -> str:
    walls = {"plaster": "plain", "stripes": "striped", "bricks": "brick", "mottled": "mottled"}[wall_kind]
    floors = {"planks": "wooden", "tiles": "tiled", "checker": "checkered", "mottled": "stone"}[floor_kind]
    form = rng.choice([
        "A room with {wall} {walls} walls and a {floor} {floors} floor, with {things}.",
        "An indoor scene: {things} in a room with {wall} {walls} walls on a {floor} {floors} floor.",
    ])  # fmt: skip
    return form.format(wall=wall, walls=walls, floor=floor, floors=floors, things=_join(things))


def _plaza_caption(rng: Rng, ground: str, kind: str, wall: str, things: list[str], weather: str) -> str:
    floors = {"tiles": "tiled", "bricks": "brick", "mottled": "stone", "checker": "checkered"}[kind]
    form = rng.choice([
        "A plaza with a {ground} {floors} ground, {wall} buildings, {things} under {weather} sky.",
        "An outdoor scene: {things} on a {ground} {floors} plaza before {wall} buildings, {weather} sky.",
    ])  # fmt: skip
    return form.format(ground=ground, floors=floors, wall=wall, things=_join(things), weather=weather)
