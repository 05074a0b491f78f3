"""The Cameras value."""

import pytest
import torch
from hypothesis import given

from gen3r.cameras.camera import Cameras
from gen3r.errors import InputError
from gen3r.geometry.points import project
from tests.poses import random_cameras, seeds


@given(seeds)
def test_relative_to_first_keeps_the_pictures(seed: int) -> None:
    cameras = random_cameras(seed)
    relative = cameras.relative_to_first()
    assert torch.equal(relative.T_world_camera[0], torch.eye(4))
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(seed)).double()
    world = cameras.T_world_camera[0].double()
    there = points @ world[:3, :3].mT + world[:3, 3]
    for a, b in zip(cameras.T_world_camera, relative.T_world_camera, strict=True):
        before = torch.linalg.inv(a.double())[:3] @ torch.cat([there, torch.ones(7, 1)], 1).T
        after = torch.linalg.inv(b.double())[:3] @ torch.cat([points, torch.ones(7, 1)], 1).T
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_resize_and_crop_follows_a_pixel() -> None:
    cameras = random_cameras(3, 1, 90, 120)
    point = torch.tensor([[0.1, -0.2, 3.0]])
    smaller = cameras.resize_and_crop(45, 45)
    eye = torch.eye(4)
    before, _ = project(point, eye, cameras.K_px[0])
    after, _ = project(point, eye, smaller.K_px[0])
    expected = before / 2 - torch.tensor([(60 - 45) // 2, 0])
    torch.testing.assert_close(after, expected)


def test_published_crop() -> None:
    wide = Cameras(torch.eye(4)[None], torch.tensor([[[900.0, 0, 640], [0, 905, 360], [0, 0, 1]]]), 720, 1280)
    K = wide.resize_and_crop(560, 560).K_px[0]
    torch.testing.assert_close(K, torch.tensor([[700.0, 0, 280.7778], [0, 703.8889, 280], [0, 0, 1]]))


def test_field_of_view_and_scale() -> None:
    cameras = Cameras.from_fov(torch.eye(4).repeat(3, 1, 1), 1.2, 100, 160)
    torch.testing.assert_close(cameras.fov_y, torch.full((3,), 1.2))
    moved = random_cameras(1)
    torch.testing.assert_close(moved.scaled(3.0).centres, 3 * moved.centres)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda T, K: T.__setitem__((1, 0, 3), float("nan")), "camera 1 holds values that are not finite"),
        (lambda T, K: T.__setitem__((2, 0, 0), 3.0), "camera 2 has no proper rotation"),
        (lambda T, K: T[0, :3, 0].neg_(), "camera 0 has no proper rotation"),
        (lambda T, K: T.__setitem__((0, 3, 0), 1.0), "last row"),
        (lambda T, K: K.__setitem__((1, 0, 0), 0.0), "camera 1 has a focal length"),
    ],
)
def test_bad_cameras_are_named(change, message: str) -> None:
    cameras = random_cameras(0, 3)
    T, K = cameras.T_world_camera.clone(), cameras.K_px.clone()
    change(T, K)
    with pytest.raises(InputError, match=message):
        Cameras(T, K, 90, 120)


def test_rotations_are_rotations_under_autocast_too() -> None:
    cameras = random_cameras(0, 8)
    with torch.autocast("cpu", torch.bfloat16):
        Cameras(cameras.T_world_camera, cameras.K_px, 90, 120)


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="intrinsics"):
        Cameras(torch.eye(4)[None], torch.eye(3).repeat(2, 1, 1), 10, 10)
    with pytest.raises(InputError, match="size"):
        Cameras(torch.eye(4)[None], torch.eye(3)[None], 0, 10)
