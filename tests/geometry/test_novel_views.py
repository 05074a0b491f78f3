"""Pictures of a clip from other cameras: its own from its own, and what a plane must look like from elsewhere."""

import math

import torch

from gen3r.cameras.camera import Cameras
from gen3r.geometry.points import project
from tests.export.conftest import make_scene


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-20 * ((a.float() - b.float()).square().mean().sqrt() / 255).log10())


def test_its_own_cameras_see_its_own_frames():
    scene = make_scene()
    pictures = scene.render(scene.cameras)
    assert pictures.shape == scene.frames.shape
    assert all(psnr(a, b) > 30 for a, b in zip(pictures, scene.frames, strict=True))


def test_a_point_is_where_its_camera_says():
    scene = make_scene(1)
    T = torch.eye(4)[None].clone()
    T[0, :3, 3] = torch.tensor([0.1, -0.05, -0.2])
    for height, width in ((32, 48), (60, 100)):  # another size and shape, too
        camera = Cameras.from_fov(T, math.radians(70), height, width)
        [picture] = scene.render(camera)
        assert picture.shape == (height, width, 3)
        red = scene.points[0, 8:16, 8:16].reshape(-1, 3)
        expected = project(red, T[0], camera.K_px[0])[0].mean(0)
        shown = (picture[..., 0] > 200) & (picture[..., 1] < 80) & (picture[..., 2] < 60)
        found = shown.nonzero().float().median(0).values.flip(0) + 0.5
        assert (found - expected).norm() < 0.02 * width  # what is revealed beside the square may be filled with red


def test_a_camera_that_looks_away_sees_nothing():
    scene = make_scene()
    T = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))[None]
    [picture] = scene.render(Cameras.from_fov(T, 1.0, 20, 30))
    assert not picture.any()


def test_a_page_for_notebooks_is_one_frame_with_everything():
    html = make_scene(2)._repr_html_()
    assert html.startswith("<iframe srcdoc=")
    assert html.count("<iframe") == 1
    assert "&lt;/html&gt;" in html
