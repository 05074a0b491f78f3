"""Things that move: cars, people, dogs and balls on smooth paths, as rigid shapes placed anew in every frame."""

from collections.abc import Sequence

import numpy as np

from gen3r.data.synthetic.decorator import Decorator
from gen3r.data.synthetic.meshes import Array, turned
from gen3r.data.synthetic.objects import STAND_INS, build, shapes
from gen3r.data.synthetic.places import Layout
from gen3r.data.synthetic.textures import Rng
from gen3r.data.synthetic.tracing import Part, Tracer

# For each kind: metres a frame, the radius of its circle, and how high its middle is.
KINDS = {"ball": (0.12, 0.5, 0.4), "car": (0.35, 1.6, 0.6), "person": (0.07, 0.45, 1.0)}
WHERE = {"street": ("car", "car", "person", "ball")}  # elsewhere people and balls


def draw_movers(d: Decorator, layout: Layout, place: str, still: Tracer, poses: Array, fov: float) -> list[Part]:
    """One to three that meet nothing, each other and the camera included, and that the camera sees.

    They are the decorator's last things, and their shapes the builder's last.
    """
    wanted, made = int(d.rng.integers(1, 4)), []
    for _ in range(40):
        kind = str(d.rng.choice(WHERE.get(place, ("person", "ball"))))
        path = _path(d.rng, layout, len(poses), KINDS[kind][0])
        others = [part.poses[:, :3, 3] for part in made]
        if len(made) == wanted or not _is_clear(path[:, :3, 3], *KINDS[kind][1:], still, poses, fov, others):
            continue
        name, first = STAND_INS[kind] if d.held_out else kind, sum(len(t) for t in d.builder.triangles)
        look = d.surface(("stripes", "checker") if kind == "ball" else ("plaster", "mottled"))
        second = d.surface(("plaster",), ("black", "grey", "blue", "brown", "beige"))[2]
        with d.placing(name, look[1], path[0, :3, 3]):
            build(d.builder, name, np.zeros(3), shapes(name)[0], 0.0, (look[2], second))
        made.append(Part(first, sum(len(t) for t in d.builder.triangles), path))
    return made


def _path(rng: Rng, layout: Layout, frames: int, speed: float) -> Array:
    """Poses [F, 4, 4] on the ground, y ahead: on an arc across what the camera looks at, or along the lane."""
    low, high = layout.look[:, :2] * [0.6, 1.0]
    start, goal = rng.uniform(low, high, (2, 2))
    angle, bend = np.arctan2(*(goal - start)[::-1]), rng.uniform(-0.03, 0.03)
    if layout.lane:
        angle, bend = layout.heading + np.pi * rng.integers(2), 0.0
    heading = angle + bend * np.arange(frames)
    steps = speed * rng.uniform(0.6, 1.4) * np.stack([np.cos(heading), np.sin(heading)], -1)
    xy = start + np.cumsum(steps, 0) - steps[0] - steps.sum(0) * rng.uniform(0, 0.4)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = [turned(a - np.pi / 2) for a in heading]
    poses[:, :2, 3], poses[:, 2, 3] = xy, layout.ground(xy)
    return poses


def _is_clear(
    path: Array, radius: float, height: float, still: Tracer, poses: Array, fov: float, others: Sequence[Array]
) -> bool:
    """Whether it would meet nothing on its path [F, 3], and is in the image for two frames of five."""
    middle = path + [0, 0, height]
    apart = [np.linalg.norm(middle - poses[:, :3, 3], axis=1).min() - 1.0 - radius]
    apart += [np.linalg.norm((path - other)[:, :2], axis=1).min() - 2.2 for other in others]
    local = np.einsum("fji,fj->fi", poses[:, :3, :3], middle - poses[:, :3, 3])
    inside = (np.abs(local[:, :2]) < 0.85 * np.tan(fov / 2) * local[:, 2:]).all(1) & (local[:, 2] < 22)
    if min(apart) < 0 or inside.mean() < 0.4 or still.blocked(middle[:-1], np.diff(middle, axis=0)).any():
        return False
    around = [turned(angle)[0] for angle in np.arange(8) * np.pi / 4]
    return not any(still.blocked(middle, np.broadcast_to(1.3 * radius * out, middle.shape)).any() for out in around)
