"""Camera paths as real clips have them: on rails, on foot, around an object, close up, from a car, from a drone."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from gen3r.data.synthetic.decorator import Thing
from gen3r.data.synthetic.places import Layout
from gen3r.data.synthetic.textures import Array, Rng

Shot = Callable[[Rng, Layout, Sequence[Thing], Array], tuple[Array, Array]]
MOST_ROLL, MOST_PITCH = 25.0, 40.0  # degrees


def camera_path(rng: Rng, shot: str, layout: Layout, things: Sequence[Thing], frames: int) -> Array:
    """Camera-to-world poses [F, 4, 4], OpenCV axes, of one drawn motion of that kind with a hand's sway.

    Some clips hardly move. A quarter is rolled, up to 25 degrees, and a quarter looks up or down by up to 40 degrees
    more; a few turn about themselves meanwhile.
    """
    span = rng.uniform(0.5, 1) if rng.random() < 0.6 else np.exp(rng.uniform(np.log(0.06), np.log(0.6)))
    t = np.linspace(0, 1, frames)
    t = rng.uniform(0, 1 - span) + span * (t + rng.uniform(0, 0.6) * (t * t * (3 - 2 * t) - t))
    eye, target = SHOTS[shot](rng, layout, things, t)
    distance = np.linalg.norm(target - eye, axis=1).mean()
    hand = rng.choice([0.0, 0.3, 1.0]) * distance
    eye, target = eye + _sway(rng, t, 0.006 * hand), target + _sway(rng, t, 0.015 * hand)
    poses = look_at(eye, target)
    roll = np.clip(rng.normal(0, 12), -MOST_ROLL, MOST_ROLL) if rng.random() < 0.25 else rng.normal(0, 1.2)
    tilted = rng.random() < 0.25 and shot not in ("close", "drone")
    pitch = rng.uniform(-MOST_PITCH, 0.5 * MOST_PITCH) if tilted else 0.0
    pan = rng.uniform(-35, 35) * (t - t.mean()) * (rng.random() < 0.25)
    angles = np.stack([pan, np.full(frames, pitch), roll + _sway(rng, t, min(1.0, hand))[:, 0]], -1)
    poses[:, :3, :3] @= Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    return poses


def dolly(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """In, out, sideways, up or between them, on rails; the eyes [F, 3] and the targets [F, 3] at times t [F]."""
    start, target = _on_ground(layout, rng.uniform(*layout.walk)), _on_ground(layout, rng.uniform(*layout.look))
    ahead = target - start
    distance = np.linalg.norm(ahead)
    ahead /= distance
    right, move = np.array([ahead[1], -ahead[0], 0.0]), rng.choice([-1, 1]) * distance * rng.uniform(0.2, 0.6)
    way = [ahead, right, right, np.array([0, 0, 0.5]), ahead + rng.uniform(-1, 1) * right][int(rng.integers(5))]
    moved = move * way * t[:, None]
    follow = rng.choice([0.0, 1.0, 1.0, rng.uniform(0, 1.3)])  # whether it keeps its direction or its target
    return start + moved, target + follow * moved


def walk(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """On foot, with steps, and the head turning slowly."""
    start, length = rng.uniform(*layout.walk), layout.reach * rng.uniform(0.3, 0.8)
    way = layout.heading + rng.normal(0, 0.2)
    place = start + length * (along(way, t) + along(way + np.pi / 2, rng.uniform(-0.06, 0.06) * np.sin(3 * t)))
    eye = _above(layout, place, start[2] + 0.03 * np.sin(2 * np.pi * length / 0.7 * t))
    turn = rng.uniform(-0.6, 0.6) + rng.uniform(-0.6, 0.6) * t
    return eye, eye + along(way + turn, 1 + 0 * t, rng.uniform(-0.3, 0.1))


def orbit(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """Around an object, at some height, some of the full turn."""
    middle, size = _object(rng, layout, things)
    far = 0.7 * size + np.exp(rng.uniform(np.log(0.8), np.log(max(1.0, layout.reach))))
    return _around(rng, layout, middle, far, rng.uniform(0.0, 0.8), t)


def close(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """A close-up of an object, of what stands on it, or of the ground before it; often from above, no horizon."""
    middle, size = _object(rng, layout, things)
    return _around(rng, layout, middle, 0.35 * size + 0.3 * 5 ** rng.random(), rng.uniform(0.05, 1.15), t)


def drive(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """Straight on, fast, looking ahead, as from a car."""
    length, bend, way = layout.reach * rng.uniform(0.3, 1.0), rng.uniform(-0.12, 0.12), layout.heading
    place = rng.uniform(*layout.walk) + length * (along(way, t) + along(way + np.pi / 2, 0.5 * bend * t * t))
    eye = _above(layout, place, np.full(len(t), rng.uniform(1.2, 2.0)))
    return eye, eye + along(way + bend * t + rng.normal(0, 0.15), 8 + 0 * t, rng.uniform(-0.12, 0.03))


def drone(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """From above, rising, coming nearer or flying by, looking down steeply or hardly."""
    height = np.exp(rng.uniform(np.log(4), np.log(30)))
    back = height * np.tan(rng.uniform(0.1, 1.2))
    target = _on_ground(layout, layout.look.mean(0) * [1, 1, 0] + rng.uniform([-4, -4, 0], [4, 10, 0]))
    turn = -np.pi / 2 + rng.uniform(-np.pi, np.pi) * rng.random() + rng.uniform(-0.7, 0.7) * t
    out, rise = back * (1 - rng.uniform(-0.3, 0.5) * t), height * (1 + rng.uniform(-0.3, 0.5) * t)
    by = t[:, None] * np.array([*(height * rng.uniform(-0.6, 0.6, 2)), 0.0])
    return target + along(turn, out) + np.stack([0 * t, 0 * t, rise], -1) + by, target + by


SHOTS: dict[str, Shot] = {f.__name__: f for f in (dolly, walk, orbit, close, drive, drone)}


def _object(rng: Rng, layout: Layout, things: Sequence[Thing]) -> tuple[Array, float]:
    """A point in the upper part of an object within reach, and how large the object is; or a point to look at."""
    near = [t for t in things if np.hypot(*(t.at[:2] - layout.walk.mean(0)[:2])) < 3 * layout.reach]
    if not near or rng.random() < 0.15:
        return _on_ground(layout, rng.uniform(*layout.look)), 0.5
    thing = near[rng.integers(len(near))]
    low, high = thing.box
    size = np.minimum(high - low, 4)
    middle = low + (high - low) * rng.uniform(0.25, 0.75, 3)
    middle[2] = min(low[2] + size[2] * rng.uniform(0.3, 1.0), low[2] + 3)
    return middle, float(np.hypot(*size[:2]))


def _around(rng: Rng, layout: Layout, middle: Array, far: float, elevation: float, t: Array) -> tuple[Array, Array]:
    """On an arc about a point, or past it on a line, at that distance, seen from an `elevation` in radians."""
    angle = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * rng.uniform(0.2, 1.8) * t * (rng.random() < 0.7)
    rise = elevation + rng.uniform(-0.3, 0.3) * t
    out = far * (1 + rng.uniform(-0.3, 0.4) * t)
    slide = along(angle[0] + np.pi / 2, (t - 0.5) * far * rng.uniform(-0.6, 0.6) * (rng.random() < 0.5))
    eye = middle + along(angle, out, rise) + slide
    eye[:, 2] = np.maximum(eye[:, 2], layout.ground(eye[:, :2]) + 0.15)
    return eye, middle + rng.choice([0.0, 1.0]) * slide


def along(azimuth: Array | float, length: Array, elevation: Array | float = 0.0) -> Array:
    """Vectors [F, 3] of lengths [F] at an azimuth from the x axis and an elevation."""
    flat = length * np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), length * np.sin(elevation)], -1)


def look_at(eye: Array, target: Array) -> Array:
    """Camera-to-world poses [F, 4, 4] at `eye` [F, 3] with z towards `target` [F, 3] and y down (world z is up)."""
    z = (target - eye) / np.linalg.norm(target - eye, axis=1, keepdims=True)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(eye), 1, 1))
    poses[:, :3] = np.stack([x, np.cross(z, x), z, eye], -1)
    return poses


def _on_ground(layout: Layout, place: Array) -> Array:
    return place + [0, 0, layout.ground(place[:2])]


def _above(layout: Layout, place: Array, height: Array) -> Array:
    """Places [F, 3] at heights [F] over the ground, whose bumps are smoothed."""
    ground, number = layout.ground(place[:, :2]), np.arange(len(place))
    line = np.polynomial.Polynomial.fit(number, ground, min(3, len(place) - 1))(number)
    return np.concatenate([place[:, :2], (np.maximum(line, ground - 0.3) + height)[:, None]], 1)


def _sway(rng: Rng, t: Array, size: float) -> Array:
    """A slow wobble [F, 3] along three axes."""
    phase, rate = rng.uniform(0, 2 * np.pi, (2, 1, 3)), rng.uniform(3, 12, (2, 1, 3))
    return size * np.sin(rate * t[:, None] + phase).sum(0)
