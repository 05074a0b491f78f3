"""Things that move: balls, cars and walking figures on smooth paths, as rigid parts placed anew in every frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gen3r.data.synthetic.decorator import Decorator
from gen3r.data.synthetic.meshes import Array, MeshBuilder
from gen3r.data.synthetic.objects import OBJECTS, build
from gen3r.data.synthetic.places import Layout
from gen3r.data.synthetic.textures import Rng
from gen3r.data.synthetic.tracing import Part, Tracer


@dataclass(frozen=True)
class Mover:
    """What moves, its main colour, its parts, and where it is [F, 3]."""

    name: str
    colour: str
    parts: Sequence[Part]
    path: Array


# For each kind: metres a frame, how wide it is, how high its middle is, and what it is in a held-out scene.
KINDS = {"ball": (0.12, 0.5, 0.4, "wheel"), "car": (0.35, 1.6, 0.6, "van"), "person": (0.07, 0.45, 1.0, "dog")}
WHERE = {"street": ("car", "car", "person", "ball")}  # elsewhere people and balls


def draw_movers(d: Decorator, layout: Layout, place: str, still: Tracer, poses: Array, fov: float) -> list[Mover]:
    """One to three that meet nothing, each other and the camera included, and that the camera sees.

    Their shapes are the builder's last.
    """
    wanted, made = int(d.rng.integers(1, 4)), []
    for _ in range(40):
        kind = str(d.rng.choice(WHERE.get(place, ("person", "ball"))))
        speed, radius, height, stand_in = KINDS[kind]
        path, heading = _path(d.rng, layout, len(poses), speed)
        if len(made) == wanted or not _is_clear(
            path, heading, radius, height, still, poses, fov, [m.path for m in made]
        ):
            continue
        name = stand_in if d.held_out else kind
        _, colour, main = d.surface(("stripes", "checker") if kind == "ball" else ("plaster", "mottled"))
        second = d.surface(("plaster",), ("black", "grey", "blue", "brown", "beige"))[2]
        with d.placing(name, colour, path[0]):
            parts = [_part(d.builder, *part) for part in BODIES[name](d.builder, path, heading, main, second)]
        made.append(Mover(name, colour, parts, path))
    return made


def _path(rng: Rng, layout: Layout, frames: int, speed: float) -> tuple[Array, Array]:
    """Places on the ground [F, 3], and headings [F] from the x axis: an arc across the stage, or along the lane."""
    start, goal = rng.uniform(*layout.stage), rng.uniform(*layout.stage)
    angle, bend = np.arctan2(*(goal - start)[::-1]), rng.uniform(-0.03, 0.03)
    if layout.lane:
        angle, bend = np.arctan2(layout.heading[1], layout.heading[0]) + np.pi * rng.integers(2), 0.0
    turned = angle + bend * np.arange(frames)
    steps = speed * rng.uniform(0.6, 1.4) * np.stack([np.cos(turned), np.sin(turned)], -1)
    xy = start + np.cumsum(steps, 0) - steps[0] - steps.sum(0) * rng.uniform(0, 0.4)
    return np.concatenate([xy, layout.ground(xy)[:, None]], 1), turned


def _is_clear(
    path: Array, heading: Array, radius: float, height: float, still: Tracer, poses: Array, fov: float,
    others: Sequence[Array],
) -> bool:  # fmt: skip
    """Whether it would meet nothing, and is in the image for two frames of five."""
    middle = path + [0, 0, height]
    apart = [np.linalg.norm(middle - poses[:, :3, 3], axis=1).min() - 1.0 - radius]
    apart += [np.linalg.norm((path - other)[:, :2], axis=1).min() - 2.2 for other in others]
    local = np.einsum("fji,fj->fi", poses[:, :3, :3], middle - poses[:, :3, 3])
    inside = (np.abs(local[:, :2]) < 0.85 * np.tan(fov / 2) * local[:, 2:]).all(1) & (local[:, 2] < 22)
    if min(apart) < 0 or inside.mean() < 0.4 or still.blocked(middle[:-1], np.diff(middle, axis=0)).any():
        return False
    around = [np.stack([np.cos(heading + a), np.sin(heading + a), 0 * heading], -1) for a in np.arange(4) * np.pi / 2]
    return not any(still.blocked(middle, 1.3 * radius * out).any() for out in around)


def _part(b: MeshBuilder, poses: Array, make: Callable[[], None]) -> Part:
    first = sum(len(t) for t in b.triangles)
    make()
    return Part(first, sum(len(t) for t in b.triangles), poses)


def _placed(path: Array, heading: Array, offset: Sequence[float] = (0, 0, 0), swing: Array | None = None) -> Array:
    """Poses [F, 4, 4] along the path, y ahead; at `offset` [3] of the body, turned about its x axis by `swing` [F]."""
    poses = np.tile(np.eye(4), (len(path), 1, 1))
    c, s = np.cos(heading - np.pi / 2), np.sin(heading - np.pi / 2)
    poses[:, 0, 0], poses[:, 0, 1], poses[:, 1, 0], poses[:, 1, 1] = c, -s, s, c
    poses[:, :3, 3] = path + poses[:, :3, :3] @ np.asarray(offset, float)
    if swing is not None:
        turn = np.tile(np.eye(3), (len(path), 1, 1))
        c, s = np.cos(swing), np.sin(swing)
        turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = c, -s, s, c
        poses[:, :3, :3] @= turn
    return poses


Body = list[tuple[Array, Callable[[], None]]]


def _travelled(path: Array) -> Array:
    """How far it has gone by each frame [F]."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def _ball(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> Body:
    poses = _placed(path, heading, (0, 0, 0.35), -_travelled(path) / 0.35)
    return [(poses, lambda: b.blob([0, 0, 0], [0.35] * 3, main))]


def _wheel(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> Body:
    poses = _placed(path, heading, (0, 0, 0.45), -_travelled(path) / 0.45)
    spokes = [lambda size=size: b.box([0, 0, 0], size, main) for size in ([0.3, 0.6, 0.12], [0.3, 0.12, 0.6])]
    return [(poses, make) for make in (lambda: b.pipe([-0.14, 0, 0], [0.14, 0, 0], 0.45, second), *spokes)]


def _vehicle(name: str) -> Callable[[MeshBuilder, Array, Array, int, int], Body]:
    size = np.array(OBJECTS[name][0])
    return lambda b, path, heading, main, second: [
        (_placed(path, heading), lambda: build(b, name, np.zeros(3), size, 0.0, (main, second)))
    ]


def _walker(trunk: Sequence[Sequence[float]], legs: Sequence[Sequence[float]], stride: float) -> Callable[..., Body]:
    """A body of ellipsoids and limbs that swing. trunk: place, radii and look of each. legs: the joint, the length,
    the radius, the look and how far it swings of each."""

    def body(b: MeshBuilder, path: Array, heading: Array, main: int, second: int) -> Body:
        looks, phase = (main, second), np.sin(_travelled(path) / stride * np.pi)
        parts: Body = [(_placed(path, heading), lambda r=r: b.blob(r[:3], r[3:6], looks[int(r[6])])) for r in trunk]
        for *joint, length, radius, look, swing in legs:
            radii = [radius, radius, length / 2 + radius / 2]
            make = lambda length=length, radii=radii, look=look: b.blob(  # noqa: E731
                [0, 0, -length / 2], radii, looks[int(look)], splits=1
            )
            parts.append((_placed(path, heading, joint, swing * phase), make))
        return parts

    return body


BODIES: dict[str, Callable[[MeshBuilder, Array, Array, int, int], Body]] = {
    "ball": _ball, "wheel": _wheel, "car": _vehicle("car"), "van": _vehicle("van"),
    "person": _walker(
        [(0, 0, 1.18, 0.24, 0.16, 0.38, 0), (0, 0, 1.66, 0.13, 0.13, 0.13, 1)],
        [leg for x in (-1, 1) for leg in ((0.11 * x, 0, 0.88, 0.84, 0.09, 1, 0.55 * x), (0.29 * x, 0, 1.42, 0.6, 0.06, 0, -0.44 * x))],
        0.75,
    ),
    "dog": _walker(
        [(0, 0, 0.58, 0.17, 0.45, 0.18, 0), (0, 0.52, 0.78, 0.11, 0.2, 0.13, 1), (0, -0.55, 0.75, 0.04, 0.16, 0.1, 0)],
        [(x, y, 0.5, 0.48, 0.055, 1, 0.6 * np.sign(x * y)) for x in (-0.1, 0.1) for y in (-0.3, 0.3)], 0.45,
    ),
}  # fmt: skip
