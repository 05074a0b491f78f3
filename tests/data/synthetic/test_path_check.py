"""A camera path must be free: it may go through no surface."""

import numpy as np

from gen3r.data.synthetic.meshes import Material, MeshBuilder
from gen3r.data.synthetic.tracing import Tracer


def hall() -> Tracer:
    """A hall of 20 m, of six walls, with a wall at x = 0 that ends at y = 0."""
    builder = MeshBuilder()
    looks = [builder.material(Material(0)) for _ in range(7)]
    for i in range(3):
        for side in (-1, 1):
            middle, size = np.zeros(3), np.full(3, 20.0)
            middle[i], size[i] = 10.05 * side, 0.1
            builder.box(middle, size, looks[2 * i + (side > 0)])
    builder.box([0, -4.5, 0], [0.2, 9, 18], looks[6])
    return Tracer(builder)


def path(*places: tuple[float, float]) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, :2, 3] = places
    return poses


def test_a_step_through_a_wall_is_not_free_though_the_end_is_in_sight_from_everywhere() -> None:
    scene = hall()
    assert scene.is_free(path((-2, -2), (-2, 2), (2, 2), (2, -2)), fov=1.0, most=1.1)
    assert not scene.is_free(path((-2, -1), (2, -1), (0, 4)), fov=1.0, most=1.1)


def test_a_path_inside_a_solid_is_not_free() -> None:
    builder = MeshBuilder()
    builder.box([0, 0, 0], [30, 30, 30], builder.material(Material(0)))
    assert not Tracer(builder).is_free(path((-2, -2), (-2, 2)), fov=1.0, most=1.1)


def test_what_is_seen_may_be_neither_too_near_nor_all_alike() -> None:
    scene, below = hall(), path((5, 0), (5, 1))
    below[:, 2, 3] = 9.5  # half a metre under the ceiling, at which it looks
    assert scene.is_free(below, fov=1.0, near=0.12, most=1.1)
    assert not scene.is_free(below, fov=1.0, near=0.3, most=1.1)
    assert not scene.is_free(below, fov=1.0, near=0.12, most=0.8)
