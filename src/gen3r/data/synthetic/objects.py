"""Furniture, street furniture, plants and vehicles, each a table of simple shapes."""

from collections.abc import Sequence

import numpy as np

from gen3r.data.synthetic.meshes import Array, MeshBuilder, turned

Row = tuple[str, tuple[float, float, float], tuple[float, float, float], int]


def _row(shape: str, x: float, y: float, z: float, w: float, d: float, h: float, look: int = 0) -> Row:
    return shape, (x, y, z), (w, d, h), look


def _legs(x: float, y: float, top: float, w: float = 0.08, d: float = 0.08) -> Row:
    return _row("+box", x, y, top / 2, w, d, top, 1)


_SOFA = [_row("box", 0, 0, 0.27, 1, 1, 0.54), _row("box", 0, 0.38, 0.6, 1, 0.24, 0.8),
         _row("|box", 0.45, 0, 0.4, 0.1, 1, 0.78, 1), _row("|box", 0.21, -0.08, 0.58, 0.4, 0.7, 0.12)]  # fmt: skip
_LEVELS = (0.03, 0.34, 0.66, 0.97)  # of the boards of a shelf

# Name -> usual size [m], and rows: shape, middle and extent in units of that size over the ground, and 0 for the main
# look or 1 for the second. Shapes after | stand on both sides, those after + at four corners. The front is at -y.
OBJECTS: dict[str, tuple[tuple[float, float, float], Sequence[Row]]] = {
    "table": ((1.3, 0.9, 0.75), [_row("box", 0, 0, 0.95, 1, 1, 0.1), _legs(0.44, 0.42, 0.9)]),
    "sofa": ((1.8, 0.9, 0.85), _SOFA),
    "shelf": ((1.0, 0.4, 1.9), [
        _row("box", 0, 0.45, 0.5, 1, 0.1, 1), _row("|box", 0.48, 0, 0.5, 0.05, 1, 1, 1),
        *(_row("box", 0, 0, z, 1, 1, 0.026, 1) for z in _LEVELS),
        *(_row("box", -0.1 + 0.1 * i, 0.05, z + 0.11, 0.5, 0.6, 0.2) for i, z in enumerate(_LEVELS[:3])),
    ]),
    "bed": ((1.5, 2.0, 0.6), [
        _row("box", 0, 0, 0.25, 1, 1, 0.5, 1), _row("box", 0, -0.05, 0.6, 0.96, 0.9, 0.3),
        _row("box", 0, 0.48, 0.8, 1, 0.04, 1.6, 1), _row("|box", 0.24, 0.35, 0.8, 0.38, 0.18, 0.2, 1),
    ]),
    "cabinet": ((1.0, 0.5, 1.0), [_row("box", 0, 0, 0.5, 1, 1, 1), _row("|box", 0.24, -0.5, 0.5, 0.42, 0.08, 0.86, 1)]),
    "chair": ((0.5, 0.5, 0.95), [
        _row("box", 0, 0, 0.48, 1, 1, 0.07), _row("box", 0, 0.46, 0.75, 1, 0.12, 0.5), _legs(0.43, 0.43, 0.46, 0.12, 0.12),
    ]),
    "lamp": ((0.5, 0.5, 1.6), [
        _row("cylinder", 0, 0, 0.45, 0.07, 0, 0.9, 1), _row("cylinder", 0, 0, 0.02, 0.8, 0, 0.04, 1),
        _row("cone", 0, 0, 0.75, 1, 0, 0.28),
    ]),
    "plant": ((0.5, 0.5, 1.1), [_row("cylinder", 0, 0, 0.15, 0.7, 0, 0.3, 1), _row("crown", 0, 0, 0.62, 1, 0, 1.3)]),
    "counter": ((2.2, 0.6, 0.92), [
        _row("box", 0, 0.03, 0.48, 1, 0.94, 0.96), _row("box", 0, 0, 0.98, 1.02, 1.04, 0.05, 1),
        _row("|box", 0.25, -0.46, 0.45, 0.46, 0.06, 0.8), _row("box", 0, 0.22, 2.0, 1, 0.56, 0.75),
    ]),
    "screen": ((1.2, 0.3, 1.2), [
        _row("box", 0, 0, 0.15, 1, 1, 0.3, 1), _row("box", 0, 0.1, 0.68, 0.95, 0.15, 0.6),
    ]),
    "desk": ((1.4, 0.7, 0.76), [
        _row("box", 0, 0, 0.96, 1, 1, 0.08), _row("|box", 0.36, 0, 0.46, 0.24, 0.9, 0.92, 1),
        _row("box", 0, 0.3, 1.26, 0.4, 0.07, 0.52, 1),
    ]),
    "armchair": ((0.95, 0.9, 0.95), [
        _row("box", 0, 0, 0.25, 0.7, 1, 0.3), _row("box", 0, 0.4, 0.6, 0.8, 0.2, 0.8),
        _row("|box", 0.42, 0, 0.32, 0.16, 0.95, 0.64),
    ]),
    "rack": ((1.1, 0.45, 1.8), [
        _legs(0.47, 0.44, 1.0, 0.05, 0.1), *(_row("box", 0, 0, z, 1, 1, 0.02, 1) for z in (0.1, 0.38, 0.67, 0.95)),
        *(_row("box", x, 0, z + 0.09, 0.22, 0.7, 0.14) for z in (0.1, 0.38, 0.67) for x in (-0.28, 0.04, 0.3)),
    ]),
    "bunk bed": ((1.1, 2.0, 1.7), [
        _legs(0.48, 0.48, 1.0, 0.07, 0.04), *(_row("box", 0, 0, z, 1, 1, 0.05, 1) for z in (0.25, 0.72)),
        *(_row("box", 0, 0, z, 0.92, 0.94, 0.1) for z in (0.32, 0.79)),
    ]),
    "wardrobe": ((1.2, 0.6, 1.95), [
        _row("box", 0, 0, 0.5, 1, 1, 1), _row("box", 0, 0, 1.02, 1.08, 1.1, 0.04, 1),
        _row("box", 0, -0.5, 0.5, 0.03, 0.08, 0.9, 1), _row("|box", 0.08, -0.52, 0.5, 0.025, 0.08, 0.1, 1),
    ]),
    "stool": ((0.45, 0.45, 0.7), [
        _row("cylinder", 0, 0, 0.93, 1, 0, 0.14), _row("cylinder", 0, 0, 0.5, 0.22, 0, 0.86, 1),
        _row("cylinder", 0, 0, 0.03, 0.8, 0, 0.06, 1),
    ]),
    "lantern": ((0.4, 0.4, 1.1), [
        *(_row("box", 0, 0, z, 1, 1, 0.04, 1) for z in (0.02, 1.0)), _row("blob", 0, 0, 0.55, 0.84, 0.84, 0.43),
        _row("cylinder", 0, 0, 0.5, 0.15, 0, 1, 1),
    ]),
    "cactus": ((0.6, 0.6, 1.2), [
        _row("cylinder", 0, 0, 0.12, 0.8, 0, 0.25, 1), _row("cylinder", 0, 0, 0.6, 0.4, 0, 0.8),
        _row("|blob", 0.3, 0, 0.55, 0.5, 0.2, 0.1), _row("|cylinder", 0.45, 0, 0.66, 0.2, 0, 0.28),
    ]),
    "tree": ((2.2, 2.2, 3.6), [_row("cylinder", 0, 0, 0.28, 0.13, 0, 0.56, 1), _row("crown", 0, 0, 0.72, 1, 0, 0.9)]),
    "pine": ((2.0, 2.0, 3.7), [_row("cylinder", 0, 0, 0.11, 0.12, 0, 0.22, 1), _row("spire", 0, 0, 0.19, 1, 0, 0.81)]),
    "bench": ((1.8, 0.6, 0.8), _SOFA[:3]),
    "lamp post": ((0.5, 0.5, 3.75), [
        _row("cylinder", 0, 0, 0.45, 0.28, 0, 0.9, 1), _row("blob", 0, 0, 0.933, 1, 1, 0.134),
    ]),
    "monument": ((1.4, 1.4, 3.2), [
        _row("box", 0, 0, 0.12, 1, 1, 0.25, 1), _row("cylinder", 0, 0, 0.53, 0.5, 0, 0.56),
        _row("blob", 0, 0, 0.88, 0.57, 0.57, 0.25),
    ]),
    "statue": ((1.0, 1.0, 2.9), [
        _row("box", 0, 0, 0.17, 1, 1, 0.34, 1), _row("|blob", 0.12, 0, 0.48, 0.2, 0.22, 0.32),
        _row("blob", 0, 0, 0.74, 0.5, 0.34, 0.28), _row("|blob", 0.3, -0.08, 0.72, 0.14, 0.2, 0.26),
        _row("blob", 0, 0, 0.94, 0.24, 0.26, 0.12),
    ]),
    "kiosk": ((2.2, 1.9, 2.4), [_row("box", 0, 0, 0.46, 0.82, 0.8, 0.92), _row("box", 0, 0, 0.96, 1, 1, 0.08, 1)]),
    "planter": ((1.2, 1.2, 1.35), [_row("box", 0, 0, 0.22, 1, 1, 0.44, 1), _row("crown", 0, 0, 0.6, 0.92, 0, 1)]),
    "car": ((1.75, 4.1, 1.47), [
        _row("box", 0, 0, 0.42, 1, 1, 0.41), _row("box", 0, -0.06, 0.78, 0.86, 0.51, 0.34, 1),
        _row("box", 0, -0.06, 0.97, 0.83, 0.44, 0.05), _row("+wheel", 0.46, 0.32, 0.245, 0.14, 0, 0.49, 1),
    ]),
    "rock": ((1.6, 1.2, 0.65), [_row("stone", 0, 0, 0.2, 1, 1, 1.5), _row("stone", 0.44, 0.25, 0.05, 0.44, 0.6, 0.9)]),
    "bush": ((1.6, 1.6, 0.9), [
        _row("stone", 0.22, 0, 0.42, 0.56, 0.56, 1.0), _row("stone", -0.1, 0.19, 0.45, 0.64, 0.6, 1.1),
        _row("stone", -0.1, -0.2, 0.4, 0.7, 0.66, 0.95),
    ]),
    "hut": ((4.0, 3.2, 3.8), [
        _row("box", 0, 0, 0.25, 1, 1, 0.7), _row("roof", 0, 0, 0.6, 1.15, 1.19, 0.4, 1),
        _row("box", 0, -0.5, 0.25, 0.22, 0.03, 0.5, 1), _row("|box", 0.3, -0.5, 0.35, 0.17, 0.02, 0.18, 1),
    ]),
    "palm": ((3.0, 3.0, 3.5), [
        _row("cylinder", 0, 0, 0.46, 0.08, 0, 0.92, 1), _row("|blob", 0.25, 0, 0.86, 0.55, 0.14, 0.03),
        *(_row("|blob", 0.17, y, 0.88, 0.2, 0.5, 0.04) for y in (-0.22, 0.22)),
    ]),
    "poplar": ((1.1, 1.1, 4.6), [_row("cylinder", 0, 0, 0.12, 0.2, 0, 0.24, 1), _row("stone", 0, 0, 0.57, 1, 1, 0.86)]),
    "picnic table": ((1.8, 1.7, 0.78), [
        _row("box", 0, 0, 0.96, 1, 0.47, 0.09), *(_row("box", 0, y, 0.58, 1, 0.18, 0.08) for y in (-0.41, 0.41)),
        _row("|box", 0.33, 0, 0.47, 0.06, 0.9, 0.1, 1), _row("|box", 0.33, 0, 0.47, 0.06, 0.09, 0.92, 1),
    ]),
    "street lantern": ((0.4, 0.4, 4.05), [
        _row("box", 0, 0, 0.06, 1, 1, 0.12, 1), _row("cylinder", 0, 0, 0.43, 0.3, 0, 0.74, 1),
        _row("box", 0, 0, 0.865, 0.8, 0.8, 0.12), _row("cone", 0, 0, 0.925, 1.7, 0, 0.075, 1),
    ]),
    "obelisk": ((1.6, 1.6, 4.3), [
        *(_row("box", 0, 0, 0.05 + 0.09 * i, w, w, 0.1, 1) for i, w in enumerate((1.0, 0.75))),
        _row("box", 0, 0, 0.54, 0.31, 0.31, 0.72), _row("cone", 0, 0, 0.9, 0.43, 0, 0.1),
    ]),
    "tent": ((2.6, 2.6, 3.0), [
        _legs(0.4, 0.4, 0.67, 0.03, 0.03), _row("cone", 0, 0, 0.66, 1.25, 0, 0.34), _row("box", 0, 0, 0.15, 0.6, 0.3, 0.3, 1),
    ]),
    "hedge": ((2.4, 0.8, 1.1), [_row("box", 0, 0, 0.5, 0.92, 0.75, 1), _row("box", 0, 0, 0.05, 1, 1, 0.1, 1)]),
    "van": ((1.95, 4.7, 2.35), [
        _row("box", 0, -0.1, 0.57, 1, 0.77, 0.85), _row("box", 0, 0.4, 0.38, 0.97, 0.22, 0.47),
        _row("box", 0, 0.37, 0.72, 0.87, 0.12, 0.26, 1), _row("+wheel", 0.46, 0.32, 0.153, 0.12, 0, 0.3, 1),
    ]),
    "cairn": ((1.2, 1.0, 1.6), [
        _row("stone", 0.02 * (-1) ** i, 0, 0.12 + 0.26 * i - 0.02 * i * i, w, w, 0.3 - 0.03 * i, i % 2)
        for i, w in enumerate((1.0, 0.75, 0.53, 0.33))
    ]),
    "reeds": ((0.8, 0.8, 1.25), [
        _row("cone", 0.37 * np.cos(a), 0.37 * np.sin(a), 0, 0.22, 0, 0.8 + 0.1 * (a % 3)) for a in range(7)
    ]),
    "tower": ((3.4, 3.4, 7.8), [
        _row("cylinder", 0, 0, 0.34, 0.76, 0, 0.78), _row("cylinder", 0, 0, 0.73, 0.9, 0, 0.06, 1),
        _row("cone", 0, 0, 0.75, 1, 0, 0.25, 1),
    ]),
}  # fmt: skip
ROOM_THINGS = (
    "table",
    "table",
    "sofa",
    "shelf",
    "bed",
    "cabinet",
    "chair",
    "chair",
    "lamp",
    "plant",
    "counter",
    "screen",
)
GREEN = ("tree", "pine", "planter", "bush", "palm", "poplar", "hedge", "reeds")
TOPS = {"table": 1.0, "desk": 1.0, "cabinet": 1.0, "shelf": 1.0, "sofa": 0.64, "bed": 0.75, "counter": 1.0,
        "armchair": 0.4, "wardrobe": 1.04, "screen": 0.3}  # fmt: skip  # where things lie, as a part of the height

# What a held-out scene has in the place of what training scenes have.
STAND_INS = {
    "table": "desk", "sofa": "armchair", "shelf": "rack", "bed": "bunk bed", "cabinet": "wardrobe", "chair": "stool",
    "lamp": "lantern", "plant": "cactus", "counter": "wardrobe", "screen": "desk", "tree": "palm", "pine": "poplar",
    "bench": "picnic table", "lamp post": "street lantern", "monument": "obelisk", "statue": "obelisk", "kiosk": "tent",
    "planter": "hedge", "car": "van", "rock": "cairn", "bush": "reeds", "hut": "tower",
}  # fmt: skip


def build(b: MeshBuilder, name: str, at: Array, size: Array, yaw: float, looks: Sequence[int]) -> None:
    """Adds an object of that size [3] standing at a place [3], turned by `yaw`, in its two looks."""
    turn = turned(yaw)
    for shape, middle, extent, look in OBJECTS[name][1]:
        sides = {"|": ((1, 1), (-1, 1)), "+": ((1, 1), (-1, 1), (1, -1), (-1, -1))}.get(shape[0], ((1, 1),))
        w, d, h = np.asarray(extent) * size
        for x, y in sides:
            _add(b, shape.lstrip("|+"), at + turn @ (size * middle * [x, y, 1]), (w, d, h, extent[2]), yaw, looks[look])


def _add(
    b: MeshBuilder, shape: str, at: Array, extent: tuple[float, float, float, float], yaw: float, look: int
) -> None:
    w, d, h, squash = extent
    match shape:
        case "box":
            b.box(at, [w, d, h], look, yaw)
        case "cylinder":
            b.cylinder(at, w / 2, h, look)
        case "cone":
            b.cone(at, w / 2, h, look)
        case "blob":
            b.blob(at, np.array([w, d, h]) / 2, look, yaw)
        case "stone":
            b.blob(at, np.array([w, d, h]) / 2, look, yaw + float(at.sum()), 0.22)
        case "roof":
            b.roof(at, [w, d, h], look, yaw)
        case "crown":
            b.crown(at, w / 2, look, squash)
        case "spire":
            b.spire(at, w / 2, h, look)
        case "wheel":
            axle = turned(yaw) @ [w / 2, 0, 0]
            b.pipe(at - axle, at + axle, h / 2, look)
