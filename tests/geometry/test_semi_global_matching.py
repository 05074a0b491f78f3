"""Two frames of a board that stands far before a wall."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.points import unproject
from gen3r.geometry.semi_global_matching import match_pair

SIZE, WALL, BOARD, HALF_WIDTH = 64, 4.0, 1.6, 0.25
SIDEWAYS = [0.25, 0.0, 0.0]
UPWARDS = [0.0, 0.25, 0.0]


def board(baseline: list[float]) -> tuple[Tensor, Tensor, Cameras]:
    """Grey values and depth of two frames [2, 2 SIZE, 2 SIZE] of a board across the baseline; their cameras."""
    T = torch.eye(4).repeat(2, 1, 1)
    T[1, :3, 3] = torch.tensor(baseline)
    cameras = Cameras.from_fov(T, 1.0, 2 * SIZE, 2 * SIZE)
    textures = torch.rand(2, 1, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    wall, near = (
        unproject(torch.full((2, 2 * SIZE, 2 * SIZE), z), cameras.T_world_camera, cameras.K_px)[..., :2]
        for z in (WALL, BOARD)
    )
    hit = near[..., baseline.index(max(baseline))].abs() < HALF_WIDTH
    painted = [
        F.grid_sample(texture.expand(2, -1, -1, -1), points / 4, align_corners=False)[:, 0]
        for texture, points in zip(textures, (wall, 2 * near), strict=True)
    ]
    return torch.where(hit, painted[1], painted[0]), torch.where(hit, BOARD, WALL), cameras


def matched(grey: Tensor, depth: Tensor, cameras: Cameras) -> Tensor:
    return match_pair(F.avg_pool2d(grey, 2), grey, depth, cameras.resize(SIZE, SIZE))


@pytest.mark.parametrize("baseline", [SIDEWAYS, UPWARDS])
def test_what_stands_before_the_predicted_depth_is_found(baseline: list[float]) -> None:
    grey, truth, cameras = board(baseline)
    truth = truth[:, ::2, ::2]
    found = matched(grey, torch.full_like(truth, WALL), cameras)
    wrong = (found / truth).log().abs() > 0.05
    assert (truth < WALL).float().mean() > 0.1
    assert wrong[truth < WALL].float().mean() < 0.1
    assert wrong.float().mean() < 0.1


def test_depth_that_fits_stays_as_it_is() -> None:
    grey, truth, cameras = board(SIDEWAYS)
    depth = truth[:, ::2, ::2].contiguous()
    assert matched(grey, depth, cameras) is depth


@pytest.mark.parametrize("other", ["noise", "nothing"])
def test_frames_that_do_not_fit_leave_depth_as_it_is(other: str) -> None:
    grey, truth, cameras = board(SIDEWAYS)
    grey[1] = torch.rand(grey[1].shape, generator=torch.Generator().manual_seed(1)) if other == "noise" else 0.5
    depth = torch.full_like(truth[:, ::2, ::2], WALL)
    assert matched(grey, depth, cameras) is depth
