"""Smooth hand-held camera paths through a world."""

from collections.abc import Mapping

import numpy as np

from gen3r.data.synthetic.textures import Array, Rng

KINDS = {"dolly": 0.3, "truck": 0.2, "pedestal": 0.1, "orbit": 0.25, "walk": 0.15}


def camera_path(rng: Rng, walk: Array, look: Array, frames: int, kinds: Mapping[str, float] = KINDS) -> Array:
    """Camera-to-world poses [F, 4, 4], OpenCV axes, of one drawn motion with a hand's sway.

    walk, look: boxes [2, 3] that the first position and the first target are drawn from. kinds: motion -> probability.
    """
    start, target = rng.uniform(*walk), rng.uniform(*look)
    ahead = target - start
    distance = float(np.linalg.norm(ahead))
    ahead /= distance
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    kind = rng.choice(list(kinds), p=list(kinds.values()))
    extent = distance * rng.uniform(0.3, 0.65) * rng.choice([-1, 1])
    t = _ease(np.linspace(0, 1, frames), rng)[:, None]
    turned = np.zeros((frames, 3))
    if kind == "dolly":
        moved = ahead * abs(extent) * t
    elif kind == "truck":
        moved = right * extent * t
        turned = moved
    elif kind == "pedestal":
        moved = np.array([0, 0, 0.5]) * extent * t
    elif kind == "orbit":
        angle = extent / distance * t * 1.2
        moved = (1 - np.cos(angle)) * ahead * distance + np.sin(angle) * right * distance
    else:
        moved = (ahead * abs(extent) + right * extent * rng.uniform(0.2, 0.8)) * t
        turned = right * extent * rng.uniform(-0.6, 0.6) * t
    eye = start + moved + sway(rng, frames, 0.004 * distance)
    target = target + turned + sway(rng, frames, 0.008 * distance)
    poses = np.stack([look_at(e, g) for e, g in zip(eye, target, strict=True)])
    return poses[::-1].copy() if kind == "dolly" and rng.random() < 0.4 else poses  # in, or out


def look_at(eye: Array, target: Array) -> Array:
    """Camera-to-world [4, 4] at `eye` with z towards `target` and y down (world z is up)."""
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    pose[:3, 3] = eye
    return pose


def _ease(t: Array, rng: Rng) -> Array:
    return t + rng.uniform(0, 0.6) * (t * t * (3 - 2 * t) - t)


def sway(rng: Rng, frames: int, size: float) -> Array:
    """A slow three-axis wobble that starts at zero."""
    t = np.arange(frames)[:, None] / 16
    phase, rate = rng.uniform(0, 2 * np.pi, (1, 3)), rng.uniform(3, 7, (1, 3))
    return size * (np.sin(rate * t + phase) - np.sin(phase))
