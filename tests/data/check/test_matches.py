"""Matches of two pictures: where they must lie, and what cameras make of them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from gen3r.data.check.matches import Matches, fundamental_matrix, match_pictures, sampson_distance
from gen3r.geometry.points import project
from tests.poses import random_cameras


def noise(height: int = 90, width: int = 120) -> np.ndarray:
    rng = np.random.default_rng(0)
    fine, coarse = (gaussian_filter(rng.random((height, width)), s) for s in (1.2, 5))
    picture = fine / fine.std() + coarse / coarse.std()
    return 128 + 40 * (picture - picture.mean()) / picture.std()


def as_picture(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.repeat(values.clip(0, 255).round().astype(np.uint8)[..., None], 3, -1))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.0, -2.0), (0.4, 0.3), (5.6, 3.2), (9.3, -4.7)])
def test_a_shift_is_found(shift: tuple[float, float]) -> None:
    picture = noise()
    y, x = np.mgrid[0:90, 0:120]
    moved = map_coordinates(picture, [y - shift[1], x - shift[0]], order=3, mode="nearest")
    found = match_pictures(as_picture(picture), as_picture(moved))
    assert len(found.here) > 2000
    off = (found.there - found.here - torch.tensor(shift)).norm(dim=-1)
    assert off.median() < 0.1
    assert off.quantile(0.95) < 0.5


def test_far_away_a_guess_is_needed() -> None:
    picture = noise(90, 240)
    one, other = as_picture(picture[:, :140]), as_picture(picture[:, 100:])
    shift = torch.tensor([-103.0, 2.0])[:, None, None].expand(2, 90, 140).clone()  # truly -100, 0
    back = -shift
    shift[:, :, :110] = torch.nan
    found = match_pictures(one, other, (shift, back))
    assert len(found.here) > 300
    assert found.here[:, 0].min() >= 110
    assert (found.there - found.here - torch.tensor([-100.0, 0.0])).norm(dim=-1).median() < 0.2


def test_nothing_alike_is_nothing_found() -> None:
    rng = np.random.default_rng(1)
    blank = torch.full((64, 64, 3), 90, dtype=torch.uint8)
    random = as_picture(255 * rng.random((64, 64)))
    assert len(match_pictures(blank, blank).here) == 0
    assert len(match_pictures(random, as_picture(255 * rng.random((64, 64)))).here) < 40


def test_true_matches_lie_on_their_epipolar_lines() -> None:
    cameras = random_cameras(5, 2)
    T, K = cameras.T_world_camera.double(), cameras.K_px.double()
    local = torch.rand(200, 3, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 2.0])
    points = local @ T[0, :3, :3].T + T[0, :3, 3]
    here, there = (project(points, T[i], K[i])[0] for i in (0, 1))
    F = fundamental_matrix(T[0], K[0], T[1], K[1])
    assert sampson_distance(Matches(here, there), F).max() < 1e-6
    beside = Matches(here, there + torch.randn(200, 2, dtype=torch.float64))
    assert 0.01 < sampson_distance(beside, F).median() < 2
