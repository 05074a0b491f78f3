"""A camera path must be free: it may go through no surface."""

import numpy as np

from gen3r.data.synthetic.lights import Lights, Sky
from gen3r.data.synthetic.meshes import Material, MeshBuilder
from gen3r.data.synthetic.render import Renderer
from gen3r.data.synthetic.textures import TILE, Atlas


def renderer() -> Renderer:
    """A hall of 20 m with a wall at x = 0 that ends at y = 0."""
    builder = MeshBuilder()
    material = builder.material(Material(0))
    builder.box([0, 0, 0], [20, 20, 20], material)
    builder.box([0, -4.5, 0], [0.2, 9, 18], material)
    dark = np.zeros(3, np.float32)
    return Renderer(builder, Atlas([np.zeros((TILE, TILE, 3))]), Lights((), dark, dark), Sky(dark, dark, 0.0))


def path(*places: tuple[float, float]) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, :2, 3] = places
    return poses


def test_a_step_through_a_wall_is_not_free_though_the_end_is_in_sight_from_everywhere() -> None:
    scene = renderer()
    assert scene.is_free(path((-2, -2), (-2, 2), (2, 2), (2, -2)), fov=1.0)
    assert not scene.is_free(path((-2, -1), (2, -1), (0, 4)), fov=1.0)
