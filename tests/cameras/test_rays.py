"""Pluecker rays, and frames folded into latent time."""

import torch
from hypothesis import given, settings

from gen3r.cameras.rays import fold_frames, pluecker_rays
from gen3r.geometry.points import project
from tests.poses import random_cameras, seeds


@given(seeds)
@settings(max_examples=10)
def test_pluecker_rays_meet_their_points(seed: int) -> None:
    cameras = random_cameras(seed, 2, 12, 16)
    rays = pluecker_rays(cameras.T_world_camera, cameras.K_px, 12, 16)
    moment, direction = rays[:3, 1, 7, 5].double(), rays[3:, 1, 7, 5].double()
    point = cameras.centres[1].double() + 2.5 * direction
    torch.testing.assert_close(torch.linalg.cross(point, direction), moment, atol=1e-4, rtol=1e-4)
    pixel, depth = project(point[None].float(), cameras.T_world_camera[1], cameras.K_px[1])
    assert depth > 0
    torch.testing.assert_close(pixel[0], torch.tensor([5.5, 7.5]), atol=1e-2, rtol=1e-3)


def test_folding_keeps_every_frame() -> None:
    video = torch.arange(2 * 9).view(1, 2, 9, 1, 1).float()
    folded = fold_frames(video)[0, :, :, 0, 0]
    assert folded.shape == (8, 3)
    assert folded[:4, 0].tolist() == [0, 0, 0, 0]
    assert folded[:4, 1].tolist() == [1, 2, 3, 4]
    assert folded[4:, 2].tolist() == [14, 15, 16, 17]
