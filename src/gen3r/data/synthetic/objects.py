"""Furniture and street furniture from boxes, cylinders, cones and balls."""

import numpy as np

from gen3r.data.synthetic.meshes import Array, MeshBuilder


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
    b.crown(at + [0, 0, size[2] * 0.62], size[0] * 0.5, main, 1.3)


def _tree(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, size], 0.14, 2 * size, second)
    b.crown(at + [0, 0, 2.6 * size], 1.1 * size, main, 0.9)


def _pine(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, 0.4], 0.12, 0.8, second)
    b.spire(at + [0, 0, 0.7], size, 3.0 * size, main)


def _bench(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    _sofa(b, at, np.array([1.8, 0.6, 0.8]) * size, yaw, main, second)


def _lamp_post(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, 1.7], 0.07, 3.4, second)
    b.sphere(at + [0, 0, 3.5], 0.25, main)


def _monument(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.box(at + [0, 0, 0.4], [1.4 * size, 1.4 * size, 0.8], second, yaw)
    b.cylinder(at + [0, 0, 1.7], 0.35 * size, 1.8, main)
    b.sphere(at + [0, 0, 2.8], 0.4 * size, main)


def _kiosk(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.box(at + [0, 0, 1.1], [1.8 * size, 1.5 * size, 2.2], main, yaw)
    b.box(at + [0, 0, 2.3], [2.2 * size, 1.9 * size, 0.2], second, yaw)


def _planter(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.box(at + [0, 0, 0.3], [1.2 * size, 1.2 * size, 0.6], second, yaw)
    b.crown(at + [0, 0, 0.8], 0.55 * size, main, 1.0)


def _desk(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h - 0.03], [w, d, 0.06], main)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.36, 0, (h - 0.06) / 2], [w * 0.24, d * 0.9, h - 0.06], second)
    _part(b, at, yaw, [0, d * 0.3, h + 0.2], [w * 0.4, 0.05, 0.4], second)


def _armchair(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h * 0.25], [w * 0.7, d, h * 0.3], main)
    _part(b, at, yaw, [0, d * 0.4, h * 0.6], [w * 0.8, d * 0.2, h * 0.8], main)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.42, 0, h * 0.32], [w * 0.16, d * 0.95, h * 0.64], second)


def _rack(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    for x in (-1, 1):
        for y in (-1, 1):
            _part(b, at, yaw, [x * w * 0.47, y * d * 0.44, h / 2], [0.05, 0.05, h], second)
    for i, z in enumerate(np.linspace(0.2, h - 0.1, 4)):
        _part(b, at, yaw, [0, 0, z], [w, d, 0.04], second)
        for x in (-0.28, 0.04, 0.3):
            _part(b, at, yaw, [x * w, 0, z + 0.14], [w * 0.22, d * (0.5 + 0.1 * i), 0.24 + 0.1 * x], main)


def _bunk(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    for x in (-1, 1):
        for y in (-1, 1):
            _part(b, at, yaw, [x * w * 0.48, y * d * 0.48, h / 2], [0.08, 0.08, h], second)
    for z in (0.25, 0.72):
        _part(b, at, yaw, [0, 0, z * h], [w, d, 0.08], second)
        _part(b, at, yaw, [0, 0, z * h + 0.12], [w * 0.92, d * 0.94, 0.16], main)


def _wardrobe(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    _part(b, at, yaw, [0, 0, h / 2], [w, d, h], main)
    _part(b, at, yaw, [0, 0, h + 0.04], [w * 1.08, d * 1.1, 0.08], second)
    _part(b, at, yaw, [0, -d * 0.5, h * 0.5], [0.04, 0.05, h * 0.9], second)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.08, -d * 0.52, h * 0.5], [0.03, 0.05, 0.2], second)


def _stool(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, _, h = size
    b.cylinder(at + [0, 0, h - 0.05], w / 2, 0.1, main)
    b.cylinder(at + [0, 0, h / 2], 0.05, h - 0.1, second)
    b.cylinder(at + [0, 0, 0.02], w * 0.4, 0.04, second)


def _lantern(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, d, h = size
    for z in (0.02, h):
        _part(b, at, yaw, [0, 0, z], [w, d, 0.04], second)
    b.sphere(at + [0, 0, h * 0.55], w * 0.42, main, 1.4)
    b.cylinder(at + [0, 0, h / 2], 0.03, h, second)


def _cactus(b: MeshBuilder, at: Array, size: Array, yaw: float, main: int, second: int) -> None:
    w, _, h = size
    b.cylinder(at + [0, 0, 0.15], w * 0.4, 0.3, second)
    b.cylinder(at + [0, 0, h * 0.6], w * 0.2, h * 0.8, main)
    for side in (-1, 1):
        b.pipe(at + [side * w * 0.15, 0, h * 0.55], at + [side * w * 0.45, 0, h * 0.55], w * 0.1, main)
        b.pipe(at + [side * w * 0.42, 0, h * 0.52], at + [side * w * 0.42, 0, h * 0.8], w * 0.1, main)


def _palm(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    top = at + [0.3 * size * np.cos(yaw), 0.3 * size * np.sin(yaw), 3.2 * size]
    b.pipe(at, top, 0.13, second)
    for angle in np.linspace(0, 2 * np.pi, 8)[:-1] + yaw:
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        b.blob(top + 0.75 * size * out - [0, 0, 0.2 * size], [0.85 * size, 0.22 * size, 0.07], main, angle)


def _poplar(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, 0.5 * size], 0.1, size, second)
    b.blob(at + [0, 0, 2.6 * size], [0.55 * size, 0.55 * size, 2.0 * size], main, yaw, 0.12)


def _picnic_table(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    _part(b, at, yaw, [0, 0, 0.75 * size], [1.8 * size, 0.8 * size, 0.07], main)
    for y in (-1, 1):
        _part(b, at, yaw, [0, y * 0.7 * size, 0.45 * size], [1.8 * size, 0.3 * size, 0.06], main)
    for x in (-1, 1):
        _part(b, at, yaw, [x * 0.6 * size, 0, 0.37 * size], [0.1, 1.5 * size, 0.08], second)
        _part(b, at, yaw, [x * 0.6 * size, 0, 0.37 * size], [0.1, 0.15, 0.72 * size], second)


def _street_lantern(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.box(at + [0, 0, 0.25], [0.4, 0.4, 0.5], second, yaw)
    b.cylinder(at + [0, 0, 1.75], 0.06, 3.0, second)
    b.box(at + [0, 0, 3.5], [0.32, 0.32, 0.5], main, yaw)
    b.cone(at + [0, 0, 3.75], 0.35, 0.3, second)


def _obelisk(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    for i, width in enumerate((1.6, 1.2)):
        b.box(at + [0, 0, 0.2 + 0.4 * i], [width * size, width * size, 0.4], second, yaw)
    b.box(at + [0, 0, 2.2 * size], [0.5 * size, 0.5 * size, 3.2 * size], main, yaw)
    b.cone(at + [0, 0, 3.8 * size], 0.35 * size, 0.5 * size, main)


def _tent(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    for x in (-1, 1):
        for y in (-1, 1):
            _part(b, at, yaw, [x * size, y * size, 1.0], [0.07, 0.07, 2.0], second)
    b.cone(at + [0, 0, 2.0], 1.6 * size, 1.0, main)
    _part(b, at, yaw, [0, 0, 0.45], [1.5 * size, 0.7 * size, 0.9], second)


def _hedge(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    _part(b, at, yaw, [0, 0, 0.55 * size], [2.2 * size, 0.6, 1.1 * size], main)
    _part(b, at, yaw, [0, 0, 0.05], [2.4 * size, 0.8, 0.1], second)


def _car(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    _part(b, at, yaw, [0, 0, 0.62], [1.75 * size, 4.1 * size, 0.6], main)
    _part(b, at, yaw, [0, -0.25, 1.15], [1.5 * size, 2.1 * size, 0.5], second)
    _part(b, at, yaw, [0, -0.25, 1.43], [1.45 * size, 1.8 * size, 0.08], main)
    _wheels(b, at, yaw, 0.8 * size, 1.3 * size, second)


def _van(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    _part(b, at, yaw, [0, -0.4, 1.35], [1.95 * size, 3.6 * size, 2.0], main)
    _part(b, at, yaw, [0, 1.9 * size, 0.9], [1.9 * size, 1.1 * size, 1.1], main)
    _part(b, at, yaw, [0, 1.75 * size, 1.7], [1.7 * size, 0.6 * size, 0.6], second)
    _wheels(b, at, yaw, 0.9 * size, 1.5 * size, second)


def _wheels(b: MeshBuilder, at: Array, yaw: float, x: float, y: float, material: int) -> None:
    c, s = np.cos(yaw), np.sin(yaw)
    axle = 0.12 * np.array([c, s, 0.0])
    for i in (-x, x):
        for j in (-y, y):
            hub = at + np.array([c * i - s * j, s * i + c * j, 0.36])
            b.pipe(hub - axle, hub + axle, 0.36, material)


def _rock(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.blob(at + [0, 0, 0.15 * size], np.array([0.8, 0.6, 0.5]) * size, main, yaw, 0.25)
    b.blob(at + [0.7 * size, 0.3 * size, 0.05], np.array([0.35, 0.4, 0.3]) * size, main, -yaw, 0.25)


def _cairn(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    for i, radius in enumerate((0.6, 0.45, 0.32, 0.2)):
        middle = at + [0.05 * (-1) ** i, 0, (0.2 + 0.42 * i - 0.03 * i * i) * size]
        b.blob(middle, np.array([radius, radius * 0.8, 0.24 - 0.02 * i]) * size, (main, second)[i % 2], yaw + i, 0.1)


def _bush(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    for i, angle in enumerate((yaw, yaw + 2, yaw + 4)):
        out = 0.35 * size * np.array([np.cos(angle), np.sin(angle), 0])
        b.blob(at + out + [0, 0, 0.4 * size], np.full(3, (0.45 + 0.06 * i) * size), main, angle, 0.2)


def _reeds(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    for i, angle in enumerate(np.linspace(0, 2 * np.pi, 8)[:-1] + yaw):
        out = 0.3 * size * np.array([np.cos(angle), np.sin(angle), 0])
        b.cone(at + out, 0.09 * size, (1.0 + 0.12 * (i % 3)) * size, main)


def _hut(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    w, d, h = 4.0 * size, 3.2 * size, 2.3 * size
    _part(b, at, yaw, [0, 0, h / 2 - 0.4], [w, d, h + 0.8], main)
    b.roof(at + [0, 0, h], [w + 0.6, d + 0.6, 1.5 * size], second, yaw)
    _part(b, at, yaw, [0, -d / 2, 0.95], [0.9, 0.08, 1.9], second)
    for x in (-1, 1):
        _part(b, at, yaw, [x * w * 0.3, -d / 2, 1.35], [0.7, 0.06, 0.7], second)


def _tower(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, 2.5 * size], 1.3 * size, 6.0 * size, main)
    b.cylinder(at + [0, 0, 5.6 * size], 1.55 * size, 0.5 * size, second)
    b.cone(at + [0, 0, 5.8 * size], 1.7 * size, 2.0 * size, second)


ROOM_THINGS = ("table", "sofa", "shelf", "bed", "cabinet", "chair", "lamp", "plant")
PLAZA_THINGS = ("tree", "pine", "bench", "lamp post", "monument", "kiosk", "planter")

# Builders, with the usual size of furniture [m]; what stands outdoors is a factor larger or smaller than usual.
FURNITURE = {
    "table": ((1.3, 0.9, 0.75), _table), "sofa": ((1.8, 0.9, 0.85), _sofa), "shelf": ((1.0, 0.4, 1.9), _shelf),
    "bed": ((1.5, 2.0, 0.6), _bed), "cabinet": ((1.0, 0.5, 1.0), _cabinet), "chair": ((0.5, 0.5, 0.95), _chair),
    "lamp": ((0.5, 0.5, 1.6), _lamp), "plant": ((0.5, 0.5, 1.1), _plant),
    "desk": ((1.4, 0.7, 0.76), _desk), "armchair": ((0.95, 0.9, 0.95), _armchair), "rack": ((1.1, 0.45, 1.8), _rack),
    "bunk bed": ((1.1, 2.0, 1.7), _bunk), "wardrobe": ((1.2, 0.6, 1.95), _wardrobe),
    "stool": ((0.45, 0.45, 0.7), _stool), "lantern": ((0.4, 0.4, 1.1), _lantern), "cactus": ((0.6, 0.6, 1.2), _cactus),
}  # fmt: skip
TOPS = {
    "table": 1.0,
    "desk": 1.0,
    "cabinet": 1.0,
    "shelf": 0.5,
    "rack": 0.5,
    "sofa": 0.54,
    "bed": 0.75,
}  # of the height
STREET = {
    "tree": _tree, "pine": _pine, "bench": _bench, "lamp post": _lamp_post, "monument": _monument, "kiosk": _kiosk,
    "planter": _planter, "car": _car, "rock": _rock, "bush": _bush, "hut": _hut,
    "palm": _palm, "poplar": _poplar, "picnic table": _picnic_table, "street lantern": _street_lantern,
    "obelisk": _obelisk, "tent": _tent, "hedge": _hedge, "van": _van, "cairn": _cairn, "reeds": _reeds, "tower": _tower,
}  # fmt: skip
GREEN = ("tree", "pine", "planter", "bush", "palm", "poplar", "hedge", "reeds")
