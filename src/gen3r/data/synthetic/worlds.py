"""Two kinds of place, a room and a plaza, each drawn from a seeded generator.

A `World` holds the triangles with their looks, the light, where a camera may walk and what it may look at.
"""

from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.meshes import Array, Material, MeshBuilder
from gen3r.data.synthetic.textures import TEXTURES, Atlas, Rng

COLOURS = {
    "white": (0.9, 0.88, 0.85), "grey": (0.5, 0.5, 0.52), "black": (0.12, 0.12, 0.13), "beige": (0.8, 0.7, 0.55),
    "brown": (0.45, 0.29, 0.17), "red": (0.72, 0.15, 0.13), "orange": (0.88, 0.5, 0.15), "yellow": (0.9, 0.78, 0.25),
    "green": (0.25, 0.52, 0.22), "teal": (0.15, 0.5, 0.5), "blue": (0.2, 0.35, 0.7), "purple": (0.45, 0.25, 0.55),
}  # fmt: skip


@dataclass(frozen=True)
class Lights:
    """Point lights [N, 3] or one sun direction, their colours, and the ambient light from above and below."""

    points: Array
    sun: Array | None
    colour: Array
    ambient_up: Array
    ambient_down: Array


@dataclass(frozen=True)
class Sky:
    """A vertical gradient from `horizon` to `zenith` with clouds; indoors it is never seen."""

    horizon: Array
    zenith: Array
    clouds: float


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


class _Decorator:
    """Draws colours and textures, and remembers each as a material of the builder."""

    def __init__(self, rng: Rng) -> None:
        self.rng, self.builder, self.textures = rng, MeshBuilder(), []

    def colour(self, names: list[str] | None = None) -> tuple[str, Array]:
        name = str(self.rng.choice(names or list(COLOURS)))
        colour = np.array(COLOURS[name]) * self.rng.uniform(0.85, 1.15, 3)
        colour += self.rng.uniform(0, 0.5) * (colour.mean() - colour)  # few real surfaces are as vivid as their name
        return name, np.clip(colour, 0.02, 0.95)

    def material(self, kind: str, colour: Array, scale: float = 1.0, emission: float = 0.0) -> int:
        second = np.clip(colour * self.rng.uniform(0.45, 0.75) + self.rng.uniform(0, 0.12, 3), 0, 1)
        if kind in ("checker", "stripes", "painting", "facade", "tiles", "bricks"):
            second = np.clip(self.rng.choice([0.35, 0.8]) + self.rng.uniform(-0.15, 0.15, 3), 0, 1)
            second = colour + self.rng.uniform(0.35, 0.75) * (second - colour)  # few real patterns are in full contrast
        self.textures.append(TEXTURES[kind](self.rng, colour, second))
        texture = len(self.textures) - 1
        return self.builder.material(Material(texture, scale, emission, kind in ("painting", "facade")))

    def surface(self, kinds: list[str], names: list[str] | None = None, scale: float = 1.0) -> tuple[str, str, int]:
        """A material of a drawn kind and colour: (kind, colour name, material)."""
        kind = str(self.rng.choice(kinds))
        name, colour = self.colour(names)
        return kind, name, self.material(kind, colour, scale * self.rng.uniform(0.7, 1.4))


def room(rng: Rng) -> World:
    """A furnished room with one or two lamps, a window and pictures."""
    d = _Decorator(rng)
    b = d.builder
    w, depth, h = rng.uniform([3.6, 4.0, 2.4], [6.5, 7.5, 3.2])
    floor_kind, floor_colour, floor = d.surface(
        ["planks", "tiles", "checker", "mottled"], ["brown", "beige", "grey", "white"]
    )
    wall_kind, wall_colour, wall = d.surface(["plaster", "plaster", "stripes", "bricks", "mottled"], scale=0.6)
    back_wall = wall if rng.random() < 0.5 else d.surface(["plaster", "bricks", "stripes", "planks"], scale=0.6)[2]
    ceiling = d.surface(["plaster"], ["white", "beige"])[2]
    t = 0.1
    b.box([0, 0, -t / 2], [w, depth, t], floor)
    b.box([0, 0, h + t / 2], [w, depth, t], ceiling)
    for x in (-1, 1):
        b.box([x * (w + t) / 2, 0, h / 2], [t, depth, h], wall)
    b.box([0, (depth + t) / 2, h / 2], [w, t, h], back_wall)
    b.box([0, -(depth + t) / 2, h / 2], [w, t, h], wall)

    _wall_pieces(d, w, depth, h)
    things = _furnish(d, w, depth)
    count = int(rng.integers(1, 3))
    points = np.stack([[rng.uniform(-w, w) * 0.25, rng.uniform(-depth, depth) * 0.25, h - 0.35] for _ in range(count)])
    lamp = d.material("plaster", np.array([1.0, 0.97, 0.88]), emission=1.0)
    for p in points:
        b.sphere([p[0], p[1], h - 0.12], 0.13, lamp, 0.6)
    warm = np.array([1.0, rng.uniform(0.86, 1.0), rng.uniform(0.7, 1.0)])
    ambient = rng.uniform(0.38, 0.5)
    lights = Lights(points, None, warm * rng.uniform(1.1, 1.6) / count, ambient * warm, 0.8 * ambient * warm)
    caption = _room_caption(rng, wall_colour, wall_kind, floor_colour, floor_kind, things)
    walk = np.array([[-w * 0.28, -depth * 0.42, 1.0], [w * 0.28, -depth * 0.12, 1.8]])
    look = np.array([[-w * 0.25, depth * 0.1, 0.5], [w * 0.25, depth * 0.5, 1.4]])
    return World(b, Atlas(d.textures), lights, Sky(np.ones(3), np.ones(3), 0.0), walk, look, caption)


def _wall_pieces(d: _Decorator, w: float, depth: float, h: float) -> None:
    """A window and pictures on the back and the side walls."""
    rng, b = d.rng, d.builder
    glass = d.material("painting", np.array([0.75, 0.85, 0.95]), emission=0.8)
    x = rng.uniform(-0.25, 0.25) * w
    b.box([x, depth / 2, h * 0.58], [rng.uniform(0.8, 1.6), 0.06, rng.uniform(0.8, 1.2)], glass)
    for side in (-1, 1):
        picture = d.material("painting", d.colour()[1])
        y = rng.uniform(-0.1, 0.4) * depth
        b.box([side * w / 2, y, h * 0.58], [0.06, rng.uniform(0.5, 1.2), rng.uniform(0.4, 0.9)], picture)


def _furnish(d: _Decorator, w: float, depth: float) -> list[str]:
    """Furniture in the far two thirds of the room, without overlap; returns what was placed."""
    rng, b = d.rng, d.builder
    things, placed = [], []
    _, rug_colour, rug = d.surface(["mottled", "checker", "stripes"], scale=1.2)
    if rng.random() < 0.6:
        b.box([rng.uniform(-0.5, 0.5), depth * 0.12, 0.01], [rng.uniform(1.4, 2.4), rng.uniform(1.2, 2.2), 0.02], rug)
        things.append(f"a {rug_colour} rug")
    for _ in range(int(rng.integers(4, 8))):
        name = str(rng.choice(list(FURNITURE)))
        size = np.array(FURNITURE[name][0]) * rng.uniform(0.85, 1.15, 3)
        x, y = (
            rng.uniform(-w / 2 + size[0] / 2 + 0.1, w / 2 - size[0] / 2 - 0.1),
            rng.uniform(0.0, depth / 2 - size[1] / 2 - 0.05),
        )
        radius = np.hypot(*size[:2]) / 2
        if any(np.hypot(x - px, y - py) < radius + pr for px, py, pr in placed):
            continue
        placed.append((x, y, radius))
        _, colour_name, main = d.surface(["plaster", "mottled", "planks", "stripes"])
        second = d.surface(["plaster", "planks"], ["brown", "black", "beige", "white", "grey"])[2]
        FURNITURE[name][1](b, np.array([x, y, 0.0]), size, rng.uniform(-0.4, 0.4), main, second)
        things.append(f"a {colour_name} {name}")
    return things


def _part(b: MeshBuilder, at: Array, yaw: float, offset: list[float], size: list[float], material: int) -> None:
    c, s = np.cos(yaw), np.sin(yaw)
    x, y, z = offset
    b.box(at + np.array([c * x - s * y, s * x + c * y, z]), np.array(size), material, yaw)


def _table(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h - 0.04], [w, d, 0.08], main)
    for x in (-1, 1):
        for y in (-1, 1):
            _part(b, at, yaw, [x * (w / 2 - 0.06), y * (d / 2 - 0.06), (h - 0.08) / 2], [0.08, 0.08, h - 0.08], second)
    b.sphere(at + [0, 0, h + 0.1], 0.11, second)


def _sofa(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h * 0.27], [w, d, h * 0.54], main)
    _part(b, at, yaw, [0, d * 0.38, h * 0.6], [w, d * 0.24, h * 0.8], main)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.45, 0, h * 0.4], [w * 0.1, d, h * 0.78], second)


def _shelf(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, d * 0.45, h / 2], [w, d * 0.1, h], main)
    for z in np.linspace(0.03, h - 0.03, 4):
        _part(b, at, yaw, [0, 0, z], [w, d, 0.05], second)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.48, 0, h / 2], [0.05, d, h], second)
    for z in np.linspace(0.03, h - 0.03, 4)[:-1]:
        _part(b, at, yaw, [-w * 0.15, 0.05, z + h * 0.12], [w * 0.5, d * 0.6, h * 0.2], main)


def _bed(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h * 0.25], [w, d, h * 0.5], second)
    _part(b, at, yaw, [0, -d * 0.05, h * 0.6], [w * 0.96, d * 0.9, h * 0.3], main)
    _part(b, at, yaw, [0, d * 0.48, h * 0.8], [w, 0.08, h * 1.6], second)


def _cabinet(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h / 2], [w, d, h], main)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.24, -d * 0.5, h / 2], [w * 0.42, 0.04, h * 0.86], second)


def _chair(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h * 0.48], [w, d, 0.07], main)
    _part(b, at, yaw, [0, d * 0.46, h * 0.75], [w, 0.06, h * 0.5], main)
    for x in (-1, 1):
        for y in (-1, 1):
            _part(b, at, yaw, [x * w * 0.43, y * d * 0.43, h * 0.23], [0.06, 0.06, h * 0.46], second)


def _lamp(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, size[2] * 0.45], 0.035, size[2] * 0.9, second)
    b.cylinder(at + [0, 0, 0.03], size[0] * 0.4, 0.06, second)
    b.cone(at + [0, 0, size[2] * 0.75], size[0] * 0.5, size[2] * 0.28, main)


def _plant(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, size[2] * 0.15], size[0] * 0.35, size[2] * 0.3, second)
    b.sphere(at + [0, 0, size[2] * 0.62], size[0] * 0.5, main, 1.3)


FURNITURE = {
    "table": ((1.3, 0.9, 0.75), _table), "sofa": ((1.8, 0.9, 0.85), _sofa), "shelf": ((1.0, 0.4, 1.9), _shelf),
    "bed": ((1.5, 2.0, 0.6), _bed), "cabinet": ((1.0, 0.5, 1.0), _cabinet), "chair": ((0.5, 0.5, 0.95), _chair),
    "lamp": ((0.5, 0.5, 1.6), _lamp), "plant": ((0.5, 0.5, 1.1), _plant),
}  # fmt: skip


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


def plaza(rng: Rng) -> World:
    """An open place between buildings, with trees, benches, lamp posts and monuments under a sky."""
    d = _Decorator(rng)
    b = d.builder
    ground_kind, ground_colour, ground = d.surface(
        ["tiles", "bricks", "mottled", "checker"], ["grey", "beige", "brown", "green", "red"], 0.5
    )
    b.box([0, 10, -0.5], [90, 90, 1.0], ground)
    wall_colour = _buildings(d)
    things = _street_furniture(d)
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.45, 1.2)
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    warm = np.array([1.0, 0.95, 0.72 + 0.2 * elevation])
    horizon, zenith = (
        rng.uniform([0.75, 0.78, 0.8], [0.92, 0.92, 0.95]),
        rng.uniform([0.3, 0.5, 0.75], [0.5, 0.68, 0.92]),
    )
    shade = rng.uniform(0.45, 0.58)
    lights = Lights(np.zeros((1, 3)), sun, warm * rng.uniform(0.5, 0.8), shade * zenith**0.3, shade * 0.7 * horizon)
    weather = "a cloudy" if (clouds := rng.uniform(0, 0.8)) > 0.4 else "a clear"
    floors = {"tiles": "tiled", "bricks": "brick", "mottled": "stone", "checker": "checkered"}[ground_kind]
    form = rng.choice([
        "A plaza with a {ground} {floors} ground, {wall} buildings, {things} under {weather} sky.",
        "An outdoor scene: {things} on a {ground} {floors} plaza before {wall} buildings, {weather} sky.",
    ])  # fmt: skip
    caption = form.format(ground=ground_colour, floors=floors, wall=wall_colour, things=_join(things), weather=weather)
    walk = np.array([[-2.0, -6.0, 1.4], [2.0, -4.0, 2.6]])
    look = np.array([[-1.5, 2.0, 0.6], [1.5, 6.0, 2.0]])
    return World(b, Atlas(d.textures), lights, Sky(horizon, zenith, clouds), walk, look, caption)


def _buildings(d: _Decorator) -> str:
    """Facades behind and beside the place; returns the colour of the first."""
    rng, first = d.rng, ""
    for x in np.linspace(-14, 14, int(rng.integers(4, 6))):
        name, colour = d.colour(["beige", "white", "grey", "red", "orange", "brown", "yellow"])
        first = first or name
        size = np.array([rng.uniform(5, 8), 6.0, rng.uniform(4, 11)])
        centre = [x + rng.uniform(-1, 1), rng.uniform(12, 16), size[2] / 2]
        d.builder.box(centre, size, d.material("facade", colour))
        if rng.random() < 0.5:
            roof = d.material("bricks", d.colour(["red", "brown", "grey"])[1])
            d.builder.box([centre[0], centre[1], size[2] + 0.2], [size[0] + 0.5, 6.5, 0.4], roof)
    for side in (-1, 1):
        for y in (2, 9):
            if rng.random() < 0.7:
                size = np.array([6.0, rng.uniform(4, 7), rng.uniform(3, 9)])
                centre = [side * rng.uniform(9, 12), y + rng.uniform(-1, 1), size[2] / 2]
                d.builder.box(centre, size, d.material("facade", d.colour()[1]))
    return first


def _street_furniture(d: _Decorator) -> list[str]:
    rng, b = d.rng, d.builder
    things, placed = [], []
    for _ in range(int(rng.integers(6, 12))):
        at = np.array([rng.uniform(-6, 6), rng.uniform(0, 10), 0.0])
        if any(np.linalg.norm(at - p) < 2.0 for p in placed):
            continue
        placed.append(at)
        name = str(rng.choice(["tree", "pine", "bench", "lamp post", "monument", "kiosk", "planter"]))
        green = name in ("tree", "pine", "planter")
        _, colour, main = d.surface(
            ["mottled"] if green else ["plaster", "mottled", "stripes"], ["green", "teal", "orange"] if green else None
        )
        second = d.surface(["mottled", "planks"], ["brown", "grey", "black"])[2]
        size, yaw = rng.uniform(0.8, 1.25), rng.uniform(-0.6, 0.6)
        if name == "tree":
            b.cylinder(at + [0, 0, size], 0.14, 2 * size, second)
            b.sphere(at + [0, 0, 2.6 * size], 1.1 * size, main, 0.9)
        elif name == "pine":
            b.cylinder(at + [0, 0, 0.4], 0.12, 0.8, second)
            b.cone(at + [0, 0, 0.7], size, 3.0 * size, main)
        elif name == "bench":
            _sofa(b, at, np.array([1.8, 0.6, 0.8]) * size, yaw, main, second)
        elif name == "lamp post":
            b.cylinder(at + [0, 0, 1.7], 0.07, 3.4, second)
            b.sphere(at + [0, 0, 3.5], 0.25, main)
        elif name == "monument":
            b.box(at + [0, 0, 0.4], [1.4 * size, 1.4 * size, 0.8], second, yaw)
            b.cylinder(at + [0, 0, 1.7], 0.35 * size, 1.8, main)
            b.sphere(at + [0, 0, 2.8], 0.4 * size, main)
        elif name == "kiosk":
            b.box(at + [0, 0, 1.1], [1.8 * size, 1.5 * size, 2.2], main, yaw)
            b.box(at + [0, 0, 2.3], [2.2 * size, 1.9 * size, 0.2], second, yaw)
        else:
            b.box(at + [0, 0, 0.3], [1.2 * size, 1.2 * size, 0.6], second, yaw)
            b.sphere(at + [0, 0, 0.8], 0.55 * size, main)
        things.append(f"a {colour} {name}")
    return things
