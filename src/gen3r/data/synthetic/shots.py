"""Camera paths as real datasets have them: dolly, handheld walk, orbit around an object, forward drive, drone."""

from collections.abc import Callable, Sequence

import numpy as np

from gen3r.data.synthetic.decorator import Thing
from gen3r.data.synthetic.paths import camera_path, look_at, sway
from gen3r.data.synthetic.places import Layout
from gen3r.data.synthetic.textures import Array, Rng

STRAIGHT = {"dolly": 0.55, "truck": 0.3, "pedestal": 0.15}


def dolly(rng: Rng, layout: Layout, things: Sequence[Thing], frames: int) -> Array:
    """In, out, sideways or up, on rails."""
    lift = np.array([0, 0, layout.ground(layout.walk.mean(0)[:2])])
    return camera_path(rng, layout.walk + lift, layout.look + lift, frames, STRAIGHT)


def walk(rng: Rng, layout: Layout, things: Sequence[Thing], frames: int) -> Array:
    """On foot, with steps, a sway, and the head turning slowly."""
    start = rng.uniform(*layout.walk)
    length = layout.reach * rng.uniform(0.2, 0.7)
    t = np.linspace(0, 1, frames)[:, None]
    ahead = _turned(layout.heading, rng.uniform(-0.25, 0.25))
    xy = start[:2] + ahead * length * t + _left(ahead) * rng.uniform(-0.06, 0.06) * length * np.sin(3 * t)
    steps = length / 0.7 * np.pi * t[:, 0]
    eye = _above(layout, xy, start[2] + 0.03 * np.sin(2 * steps)) + sway(rng, frames, 0.02)
    pan = rng.uniform(-0.3, 0.3) + rng.uniform(-0.5, 0.5) * t[:, 0]
    gaze = _gaze(ahead, pan, rng.uniform(-0.2, 0.08)) + sway(rng, frames, 0.02)
    return _poses(eye, eye + gaze, roll=0.02 * np.sin(steps))


def orbit(rng: Rng, layout: Layout, things: Sequence[Thing], frames: int) -> Array:
    """Around an object, at some height, some of the full turn."""
    near = [t for t in things if np.hypot(*(t.at[:2] - layout.walk.mean(0)[:2])) < 3 * layout.reach] or list(things)
    middle = (near[rng.integers(len(near))].at if near else layout.look.mean(0)) + [0, 0, rng.uniform(0.4, 1.2)]
    far = rng.uniform(0.22, 0.5) * min(layout.reach + 3, 12)
    angle = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * np.linspace(0, rng.uniform(0.4, 1.9), frames)
    height = rng.uniform(0.1, 0.6) * far + rng.uniform(0, 0.2) * far * np.linspace(0, 1, frames)
    eye = middle + np.stack([far * np.cos(angle), far * np.sin(angle), height], -1) + sway(rng, frames, 0.01 * far)
    return _poses(eye, np.broadcast_to(middle, eye.shape) + sway(rng, frames, 0.015 * far))


def drive(rng: Rng, layout: Layout, things: Sequence[Thing], frames: int) -> Array:
    """Straight on, fast, looking ahead, as from a car."""
    start = rng.uniform(*layout.walk)
    t = np.linspace(0, 1, frames)[:, None]
    length = layout.reach * rng.uniform(0.3, 1.0)
    ahead, bend = layout.heading, rng.uniform(-0.12, 0.12)
    xy = start[:2] + ahead * length * t + _left(ahead) * bend * length * t * t * 0.5
    eye = _above(layout, xy, np.full(frames, rng.uniform(1.2, 2.0))) + sway(rng, frames, 0.006)
    gaze = _gaze(ahead, bend * t[:, 0] + rng.uniform(-0.05, 0.05), rng.uniform(-0.1, 0.02))
    return _poses(eye, eye + gaze)


def drone(rng: Rng, layout: Layout, things: Sequence[Thing], frames: int) -> Array:
    """From above: forwards, rising or in an arc, looking down at the place."""
    t = np.linspace(0, 1, frames)
    height, back = rng.uniform(6, 18), rng.uniform(4, 16)
    target = layout.look.mean(0) + [0, rng.uniform(0, 6), 0]
    turn = rng.uniform(-0.5, 0.5) + rng.uniform(-0.6, 0.6) * t
    out = back * (1 - rng.uniform(-0.3, 0.6) * t)
    rise = height * (1 + rng.uniform(-0.3, 0.5) * t)
    base = layout.ground(target[:2])
    eye = target + np.stack([out * np.sin(turn), -out * np.cos(turn), rise], -1) + [0, 0, base]
    goal = target + [0, 0, base] + np.stack([0 * t, rng.uniform(0, 4) * t, 0 * t], -1)
    return _poses(eye + sway(rng, frames, 0.05), goal + sway(rng, frames, 0.05))


SHOTS: dict[str, Callable[[Rng, Layout, Sequence[Thing], int], Array]] = {
    f.__name__: f for f in (dolly, walk, orbit, drive, drone)
}


def _turned(direction: Array, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]]) @ direction


def _left(direction: Array) -> Array:
    return np.array([-direction[1], direction[0]])


def _above(layout: Layout, xy: Array, height: Array) -> Array:
    """Places [F, 3] over the ground, whose bumps are smoothed."""
    ground = layout.ground(xy)
    line = np.polynomial.Polynomial.fit(np.arange(len(xy)), ground, min(3, len(xy) - 1))(np.arange(len(xy)))
    return np.concatenate([xy, (np.maximum(line, ground - 0.3) + height)[:, None]], 1)


def _gaze(ahead: Array, pan: Array, pitch: float) -> Array:
    """Directions [F, 3] turned from `ahead` by angles [F], and up by `pitch`."""
    flat = np.stack([_turned(ahead, angle) for angle in pan])
    return np.concatenate([np.cos(pitch) * flat, np.full((len(pan), 1), np.sin(pitch))], 1)


def _poses(eye: Array, target: Array, roll: Array | None = None) -> Array:
    poses = np.stack([look_at(e, t) for e, t in zip(eye, target, strict=True)])
    if roll is not None:
        c, s, zero, one = np.cos(roll), np.sin(roll), np.zeros_like(roll), np.ones_like(roll)
        turn = np.stack([np.stack([c, -s, zero], -1), np.stack([s, c, zero], -1), np.stack([zero, zero, one], -1)], 1)
        poses[:, :3, :3] = poses[:, :3, :3] @ turn
    return poses
