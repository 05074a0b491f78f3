"""Things that move: balls, cars and walking figures on smooth paths, as rigid parts placed anew in every frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.meshes import Array, MeshBuilder
from gen3r.data.synthetic.objects import STREET
from gen3r.data.synthetic.places import Layout
from gen3r.data.synthetic.render import Renderer
from gen3r.data.synthetic.splits import MOVER_STAND_INS, SplitDecorator
from gen3r.data.synthetic.textures import Rng


@dataclass(frozen=True)
class Part:
    """The faces from `first` to `last` of the builder, and their pose [F, 4, 4] in the world."""

    first: int
    last: int
    poses: Array


@dataclass(frozen=True)
class Mover:
    """What moves, its main colour, its parts, and where it is [F, 3]."""

    name: str
    colour: str
    parts: Sequence[Part]
    path: Array


# For each kind: metres a frame, how wide and how high it is, and where it may be.
SPEED = {"ball": 0.12, "car": 0.35, "person": 0.07}
SIZE = {"ball": (0.5, 0.4), "car": (1.6, 0.6), "person": (0.45, 1.0)}
KINDS = {
    "room": ("ball", "person"), "corridor": ("ball", "person"), "street": ("car", "car", "person", "ball"),
    "plaza": ("person", "ball"), "terrain": ("person", "ball"),
}  # fmt: skip


def clear_path(
    rng: Rng, layout: Layout, place: str, still: Renderer, poses: Array, fov: float, others: Sequence[Array]
) -> tuple[str, Array, Array] | None:
    """A training kind, its path [F, 3] and headings [F]; None where it would meet something or is hardly seen."""
    kind = str(rng.choice(KINDS[place]))
    path, heading = _path(rng, layout, len(poses), SPEED[kind])
    radius, height = SIZE[kind]
    middle = path + [0, 0, height]
    apart = [np.linalg.norm(middle - poses[:, :3, 3], axis=1).min() - 1.0 - radius]
    apart += [np.linalg.norm((path - other)[:, :2], axis=1).min() - 2.2 for other in others]
    if min(apart) < 0 or not _seen(middle, poses, fov):
        return None
    ahead = np.stack([np.cos(heading), np.sin(heading), 0 * heading], -1)
    left = np.stack([-np.sin(heading), np.cos(heading), 0 * heading], -1)
    for out in (ahead, -ahead, left, -left):
        if not still.visible(middle, 1.3 * radius * out).all():
            return None
    return (kind, path, heading) if still.visible(middle[:-1], middle[1:] - middle[:-1]).all() else None


def _seen(places: Array, poses: Array, fov: float) -> bool:
    """Whether places [F, 3] are in the image for two frames of five."""
    local = np.einsum("fji,fj->fi", poses[:, :3, :3], places - poses[:, :3, 3])
    inside = (np.abs(local[:, :2]) < 0.85 * np.tan(fov / 2) * local[:, 2:]).all(1) & (local[:, 2] < 22)
    return bool(inside.mean() >= 0.4)


def draw_mover(d: SplitDecorator, kind: str, path: Array, heading: Array) -> Mover:
    """The mover of that kind, or of one that stands in for it, in drawn colours; its shapes are the builder's last."""
    name = MOVER_STAND_INS[kind] if d.held_out else kind
    _, colour, main = d.surface(["stripes", "checker"] if kind == "ball" else ["plaster", "mottled"])
    second = d.surface(["plaster"], ["black", "grey", "blue", "brown", "beige"], beside=colour)[2]
    with d.placing(name, colour, path[0]):
        parts = MOVERS[name](d.builder, path, heading, main, second)
    return Mover(name, colour, parts, path)


def _path(rng: Rng, layout: Layout, frames: int, speed: float) -> tuple[Array, Array]:
    """Places on the ground [F, 3], and headings [F] from the x axis: an arc across the stage, or along the lane."""
    start = rng.uniform(*layout.stage)
    if layout.lane:
        angle = np.arctan2(layout.heading[1], layout.heading[0]) + np.pi * rng.integers(2)
        bend = 0.0
    else:
        goal = rng.uniform(*layout.stage)
        angle, bend = np.arctan2(*(goal - start)[::-1]), rng.uniform(-0.03, 0.03)
    speed *= rng.uniform(0.6, 1.4)
    turned = angle + bend * np.arange(frames)
    steps = speed * np.stack([np.cos(turned), np.sin(turned)], -1)
    xy = start + np.cumsum(steps, 0) - steps[0] - steps.sum(0) * rng.uniform(0, 0.4)
    return np.concatenate([xy, layout.ground(xy)[:, None]], 1), turned


def _faces(b: MeshBuilder) -> int:
    return sum(len(t) for t in b.triangles)


def _part(b: MeshBuilder, poses: Array, build: Callable[[], None]) -> Part:
    first = _faces(b)
    build()
    return Part(first, _faces(b), poses)


def _placed(path: Array, heading: Array, offset: Sequence[float] = (0, 0, 0), swing: Array | None = None) -> Array:
    """Poses [F, 4, 4] along the path, y ahead; at `offset` [3] of the body, turned about its x axis by `swing` [F]."""
    yaw = heading - np.pi / 2
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    body = np.stack([np.stack([c, -s, zero], -1), np.stack([s, c, zero], -1), np.stack([zero, zero, one], -1)], 1)
    poses = np.tile(np.eye(4), (len(path), 1, 1))
    poses[:, :3, 3] = path + body @ np.asarray(offset, float)
    poses[:, :3, :3] = body
    if swing is not None:
        c, s = np.cos(swing), np.sin(swing)
        turn = np.stack([np.stack([one, zero, zero], -1), np.stack([zero, c, -s], -1), np.stack([zero, s, c], -1)], 1)
        poses[:, :3, :3] = body @ turn
    return poses


def _travelled(path: Array) -> Array:
    """How far it has gone by each frame [F]."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def _ball(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> list[Part]:
    poses = _placed(path, heading, (0, 0, 0.35), -_travelled(path) / 0.35)
    return [_part(b, poses, lambda: b.sphere([0, 0, 0], 0.35, main))]


def _wheel(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> list[Part]:
    poses = _placed(path, heading, (0, 0, 0.45), -_travelled(path) / 0.45)

    def build() -> None:
        b.pipe([-0.14, 0, 0], [0.14, 0, 0], 0.45, second)
        b.box([0, 0, 0], [0.3, 0.6, 0.12], main)
        b.box([0, 0, 0], [0.3, 0.12, 0.6], main)

    return [_part(b, poses, build)]


def _vehicle(name: str) -> Callable[[MeshBuilder, Array, Array, int, int], list[Part]]:
    def build(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> list[Part]:
        poses = _placed(path, heading)
        return [_part(b, poses, lambda: STREET[name](b, np.zeros(3), 1.0, 0.0, main, second))]

    return build


def _person(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> list[Part]:
    stride = _travelled(path) / 0.75 * np.pi

    def trunk() -> None:
        b.blob([0, 0, 1.18], [0.24, 0.16, 0.38], main)
        b.sphere([0, 0, 1.66], 0.13, second)

    def limb(length: float, radius: float, material: int) -> Callable[[], None]:
        return lambda: b.blob([0, 0, -length / 2], [radius, radius, length / 2 + radius / 2], material, splits=1)

    parts = [_part(b, _placed(path, heading, (0, 0, 0.03), None), trunk)]
    for side in (-1, 1):
        swing = 0.55 * side * np.sin(stride)
        parts.append(_part(b, _placed(path, heading, (0.11 * side, 0, 0.88), swing), limb(0.84, 0.09, second)))
        parts.append(_part(b, _placed(path, heading, (0.29 * side, 0, 1.42), -0.8 * swing), limb(0.6, 0.06, main)))
    return parts


def _dog(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> list[Part]:
    stride = _travelled(path) / 0.45 * np.pi

    def trunk() -> None:
        b.blob([0, 0, 0.58], [0.17, 0.45, 0.18], main)
        b.blob([0, 0.52, 0.78], [0.11, 0.2, 0.13], second)
        b.pipe([0, -0.4, 0.62], [0, -0.62, 0.85], 0.035, main)

    parts = [_part(b, _placed(path, heading), trunk)]
    for x in (-0.1, 0.1):
        for y in (-0.3, 0.3):
            swing = 0.6 * np.sin(stride + (np.pi if x * y > 0 else 0))
            build = lambda: b.blob([0, 0, -0.24], [0.05, 0.06, 0.28], second, splits=1)  # noqa: E731
            parts.append(_part(b, _placed(path, heading, (x, y, 0.5), swing), build))
    return parts


MOVERS = {
    "ball": _ball, "car": _vehicle("car"), "person": _person, "wheel": _wheel, "van": _vehicle("van"), "dog": _dog,
}  # fmt: skip
