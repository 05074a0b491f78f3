"""Camera paths as real clips have them: on rails, on foot, around an object, close up, from a car, from a drone."""

from collections.abc import Callable, Sequence

import numpy as np

from gen3r.data.synthetic.decorator import Thing
from gen3r.data.synthetic.paths import look_at
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
    t = rng.uniform(0, 1 - span) + span * _ease(np.linspace(0, 1, frames), rng)
    eye, target = SHOTS[shot](rng, layout, things, t)
    distance = np.linalg.norm(target - eye, axis=1).mean()
    hand = rng.choice([0.0, 0.3, 1.0]) * distance
    eye, target = eye + _sway(rng, t, 0.006 * hand), target + _sway(rng, t, 0.015 * hand)
    poses = np.stack([look_at(e, g) for e, g in zip(eye, target, strict=True)])
    roll = np.clip(rng.normal(0, 12), -MOST_ROLL, MOST_ROLL) if rng.random() < 0.25 else rng.normal(0, 1.2)
    pitch = rng.uniform(-MOST_PITCH, 0.5 * MOST_PITCH) if rng.random() < 0.25 and shot not in ("close", "drone") else 0
    pan = rng.uniform(-35, 35) * (t - t.mean()) * (rng.random() < 0.25)
    rolls = np.deg2rad(roll) + 0.02 * _sway(rng, t, min(1.0, hand))[:, 0]
    poses[:, :3, :3] @= _turns(np.deg2rad(pan), 1) @ _turns(np.full(frames, np.deg2rad(pitch)), 0) @ _turns(rolls, 2)
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
    ahead = _turned(layout.heading, rng.uniform(-0.25, 0.25))
    xy = (
        start[:2]
        + (ahead * length) * t[:, None]
        + _left(ahead) * (rng.uniform(-0.06, 0.06) * length * np.sin(3 * t))[:, None]
    )
    eye = _above(layout, xy, start[2] + 0.03 * np.sin(2 * np.pi * length / 0.7 * t))
    return eye, eye + _gaze(ahead, rng.uniform(-0.6, 0.6) + rng.uniform(-0.6, 0.6) * t, rng.uniform(-0.3, 0.1))


def orbit(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """Around an object, at some height, some of the full turn."""
    middle, size = _object(rng, layout, things)
    far = 0.7 * size + np.exp(rng.uniform(np.log(0.8), np.log(max(1.0, layout.reach))))
    return _around(rng, layout, middle, far, rng.uniform(0.0, 0.8), t)


def close(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """A close-up of an object, of what stands on it, or of the ground before it; often from above, no horizon."""
    middle, size = _object(rng, layout, things)
    far = 0.35 * size + np.exp(rng.uniform(np.log(0.3), np.log(1.5)))
    return _around(rng, layout, middle, far, rng.uniform(0.05, 1.15), t)


def drive(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """Straight on, fast, looking ahead, as from a car."""
    start, length = rng.uniform(*layout.walk), layout.reach * rng.uniform(0.3, 1.0)
    ahead, bend = layout.heading, rng.uniform(-0.12, 0.12)
    xy = start[:2] + ahead * length * t[:, None] + _left(ahead) * (bend * length * t * t * 0.5)[:, None]
    eye = _above(layout, xy, np.full(len(t), rng.uniform(1.2, 2.0)))
    return eye, eye + 8 * _gaze(ahead, bend * t + rng.normal(0, 0.15), rng.uniform(-0.12, 0.03))


def drone(rng: Rng, layout: Layout, things: Sequence[Thing], t: Array) -> tuple[Array, Array]:
    """From above, rising, coming nearer or flying by, looking down steeply or hardly."""
    height = np.exp(rng.uniform(np.log(4), np.log(30)))
    back = height * np.tan(rng.uniform(0.1, 1.2))
    target = _on_ground(layout, layout.look.mean(0) * [1, 1, 0] + rng.uniform([-4, -4, 0], [4, 10, 0]))
    turn = rng.uniform(-np.pi, np.pi) * rng.random() + rng.uniform(-0.7, 0.7) * t
    out, rise = back * (1 - rng.uniform(-0.3, 0.5) * t), height * (1 + rng.uniform(-0.3, 0.5) * t)
    way = height * rng.uniform(-0.6, 0.6, 2)
    by = t[:, None] * np.array([*way, 0.0])
    eye = target + np.stack([out * np.sin(turn), -out * np.cos(turn), rise], -1) + by
    return eye, target + by


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
    arm = np.stack([np.cos(angle) * np.cos(rise), np.sin(angle) * np.cos(rise), np.sin(rise)], -1)
    slide = np.array([-np.sin(angle[0]), np.cos(angle[0]), 0.0]) * far * rng.uniform(-0.6, 0.6)
    shift = (t - 0.5)[:, None] * slide * (rng.random() < 0.5)
    eye = middle + out[:, None] * arm + shift
    eye[:, 2] = np.maximum(eye[:, 2], layout.ground(eye[:, :2]) + 0.15)
    return eye, middle + rng.choice([0.0, 1.0]) * shift + 0 * eye


def _turned(direction: Array, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]]) @ direction


def _left(direction: Array) -> Array:
    return np.array([-direction[1], direction[0]])


def _on_ground(layout: Layout, place: Array) -> Array:
    return place + [0, 0, layout.ground(place[:2])]


def _above(layout: Layout, xy: Array, height: Array) -> Array:
    """Places [F, 3] over the ground, whose bumps are smoothed."""
    ground = layout.ground(xy)
    line = np.polynomial.Polynomial.fit(np.arange(len(xy)), ground, min(3, len(xy) - 1))(np.arange(len(xy)))
    return np.concatenate([xy, (np.maximum(line, ground - 0.3) + height)[:, None]], 1)


def _gaze(ahead: Array, pan: Array, pitch: float) -> Array:
    """Directions [F, 3] turned from `ahead` by angles [F], and up by `pitch`."""
    flat = np.stack([_turned(ahead, angle) for angle in pan])
    return np.concatenate([np.cos(pitch) * flat, np.full((len(pan), 1), np.sin(pitch))], 1)


def _turns(angle: Array, axis: int) -> Array:
    """Rotations [F, 3, 3] by angles [F] about one of the camera's axes."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    turn[:, i, i], turn[:, i, j], turn[:, j, i], turn[:, j, j] = c, -s, s, c
    return turn


def _ease(t: Array, rng: Rng) -> Array:
    return t + rng.uniform(0, 0.6) * (t * t * (3 - 2 * t) - t)


def _sway(rng: Rng, t: Array, size: float) -> Array:
    """A slow wobble [F, 3] along three axes."""
    phase, rate = rng.uniform(0, 2 * np.pi, (2, 1, 3)), rng.uniform(3, 12, (2, 1, 3))
    return size * np.sin(rate * t[:, None] + phase).sum(0)
