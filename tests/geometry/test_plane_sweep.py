"""The depth that two pictures and their cameras agree on."""

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.geometry.plane_sweep import FACTORS, sharpened_depth
from gen3r.geometry.points import unproject


def painted_wall() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pictures of a wall at z = 2, its depth, and the cameras, one of which stands aside and nearer."""
    T = torch.eye(4).repeat(2, 1, 1)
    T[1, :3, 3] = torch.tensor([0.3, 0.1, 0.4])
    K = Cameras.from_fov(T, 1.0, 64, 64).K_px
    depth = torch.tensor([2.0, 1.6])[:, None, None].repeat(1, 64, 64)
    x, y, _ = unproject(depth, T, K).unbind(-1)
    pictures = torch.stack([(9 * x).sin(), (7 * y + 3 * x).sin(), (5 * x - 11 * y).cos()], 1) / 2 + 0.5
    return pictures, depth, T, K


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (0.8, 1.0), (1.2, 0.85)])
def test_a_wrong_scale_is_mended(wrong: tuple[float, float]) -> None:
    pictures, depth, *cameras = painted_wall()
    found = sharpened_depth(pictures, torch.tensor(wrong)[:, None, None] * depth, *cameras)
    assert (found / depth).log().abs().median() < 0.02  # factors are 0.03 apart; at the margin nothing is known


def test_what_is_right_stays_and_what_is_wrong_is_mended_beside_it() -> None:
    pictures, depth, *cameras = painted_wall()
    guess = depth.clone()
    guess[0, :, 32:] *= 1.2
    found = (sharpened_depth(pictures, guess, *cameras) / depth)[0].log().abs()
    assert found[:, :24].mean() < 0.02
    assert found[:, 40:56].mean() < 0.03


def test_pictures_that_say_nothing_leave_depth_as_it_is() -> None:
    pictures, depth, *cameras = painted_wall()
    assert torch.equal(sharpened_depth(torch.full_like(pictures, 0.5), depth, *cameras), depth)
    noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert ((sharpened_depth(noise, depth, *cameras) / depth).log().abs() < 0.11).all()
    still = torch.eye(4).repeat(2, 1, 1)
    assert torch.equal(sharpened_depth(pictures[:1].repeat(2, 1, 1, 1), depth, still, cameras[1]), depth)
    assert (FACTORS == 1).sum() == 1
