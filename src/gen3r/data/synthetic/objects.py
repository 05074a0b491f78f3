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



def _tree(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, size], 0.14, 2 * size, second)
    b.sphere(at + [0, 0, 2.6 * size], 1.1 * size, main, 0.9)


def _pine(b: MeshBuilder, at: Array, size: float, yaw: float, main: int, second: int) -> None:
    b.cylinder(at + [0, 0, 0.4], 0.12, 0.8, second)
    b.cone(at + [0, 0, 0.7], size, 3.0 * size, main)


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
    b.sphere(at + [0, 0, 0.8], 0.55 * size, main)


FURNITURE = {
    "table": ((1.3, 0.9, 0.75), _table), "sofa": ((1.8, 0.9, 0.85), _sofa), "shelf": ((1.0, 0.4, 1.9), _shelf),
    "bed": ((1.5, 2.0, 0.6), _bed), "cabinet": ((1.0, 0.5, 1.0), _cabinet), "chair": ((0.5, 0.5, 0.95), _chair),
    "lamp": ((0.5, 0.5, 1.6), _lamp), "plant": ((0.5, 0.5, 1.1), _plant),
}  # fmt: skip
STREET = {
    "tree": _tree, "pine": _pine, "bench": _bench, "lamp post": _lamp_post, "monument": _monument, "kiosk": _kiosk,
    "planter": _planter,
}  # fmt: skip
GREEN = ("tree", "pine", "planter")
