"""The scale of depth that two pictures and their cameras agree on."""

import pytest
import torch

from gen3r.cameras import Cameras
from gen3r.geometry.parallax import SCALES, depth_scales
from gen3r.geometry.points import unproject


def painted_wall() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pictures of a wall at z = 2, its depth, and the cameras, one of which stands aside and nearer."""
    T = torch.eye(4).repeat(2, 1, 1)
    T[1, :3, 3] = torch.tensor([0.3, 0.1, 0.4])
    K = Cameras.from_fov(T, 1.0, 64, 64).K_px
    depth = torch.tensor([2.0, 1.6])[:, None, None].expand(2, 64, 64)
    x, y, _ = unproject(depth, T, K).unbind(-1)
    pictures = torch.stack([(9 * x).sin(), (7 * y + 3 * x).sin(), (5 * x - 11 * y).cos()], 1) / 2 + 0.5
    return pictures, depth, T, K


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (0.7, 1.0), (1.25, 0.8)])
def test_the_scale_of_each_picture_is_found(wrong: tuple[float, float]) -> None:
    pictures, depth, *cameras = painted_wall()
    factors = torch.tensor(wrong)
    found = depth_scales(pictures, factors[:, None, None] * depth, *cameras)
    assert ((found * factors).log().abs() < 0.051).all()  # one of `SCALES` to the next


def test_pictures_that_say_nothing_leave_depth_as_it_is() -> None:
    pictures, depth, *cameras = painted_wall()
    assert torch.equal(depth_scales(torch.full_like(pictures, 0.5), depth, *cameras), torch.ones(2))
    noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (depth_scales(noise, depth, *cameras).log().abs() < 0.11).all()
    still = torch.eye(4).repeat(2, 1, 1)
    assert torch.equal(depth_scales(pictures[:1].repeat(2, 1, 1, 1), depth, still, cameras[1]), torch.ones(2))
    assert (SCALES == 1).sum() == 1
