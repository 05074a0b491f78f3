"""Metrics: invariances and known values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen3r.evaluation.metrics import (
    absolute_relative,
    camera_auc,
    depth_inliers,
    fine_detail,
    l1_scale,
    median_scale,
    pair_distances,
    pair_errors,
    psnr,
    rank_correlation,
    ssim,
    trajectory_error,
)
from tests.poses import random_poses, seeds


def test_psnr_of_a_known_error() -> None:
    image = torch.rand(3, 8, 8) * 0.5
    assert psnr(image + 0.1, image) == pytest.approx(20.0, abs=1e-3)


@given(seeds)
def test_ssim_is_one_of_the_same_and_falls_with_noise_and_blur(seed: int) -> None:
    image, noise = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    assert ssim(image, image) == pytest.approx(1)
    assert 1 > ssim(image.lerp(noise, 0.2), image) > ssim(image.lerp(noise, 0.6), image)
    assert ssim(image, noise) == pytest.approx(ssim(noise, image), abs=1e-6)
    assert ssim(image.mean((2, 3), keepdim=True).expand_as(image), image) < 0.5


def test_absrel_ignores_scale_and_invalid_pixels() -> None:
    target = 1 + torch.rand(2, 6, 6)
    valid = torch.rand(2, 6, 6) > 0.3
    spoiled = torch.where(valid, 7 * target, torch.full_like(target, 1e4))
    assert absolute_relative(spoiled, target, valid) == pytest.approx(0, abs=1e-6)
    assert absolute_relative(target.square(), target, valid) > 0.05


@given(st.floats(1, 5), st.floats(0.1, 10), st.integers(1, 4))
def test_absrel_of_a_known_error(factor: float, scale: float, rows: int) -> None:
    target = torch.full((2, 10, 10), 3.0)
    depth = scale * target
    depth[:, :rows] *= factor  # under half of it is too far, so the median is right
    error = rows / 10 * (factor - 1)
    assert absolute_relative(depth, target, target > 0, median_scale) == pytest.approx(error, abs=1e-5)
    if rows * factor < 9.9 - rows:  # what is far weighs more where absolute errors are to be least
        assert absolute_relative(depth, target, target > 0) == pytest.approx(error, abs=1e-5)


@given(seeds)
def test_no_scale_has_less_absolute_error(seed: int) -> None:
    depth, target = 0.1 + torch.rand(2, 60, generator=torch.Generator().manual_seed(seed))
    error = [(scale * depth - target).abs().mean() for scale in (l1_scale(depth, target), *(target / depth))]
    assert error[0] == min(error)


@given(seeds)
def test_camera_errors_ignore_world_and_scale(seed: int) -> None:
    target = random_poses(seed, 5)
    world = random_poses(seed + 1, 1)[0]
    moved = world @ target
    moved[:, :3, 3] = moved[:, :3, 3] * 1.0
    scaled = target.clone()
    scaled[:, :3, 3] *= 4.0
    for other in (moved, scaled):
        turn, along = pair_errors(other, target)
        assert turn.max() < 1e-3
        assert along.max() < 1e-3
        assert camera_auc(other, target) == 1.0


def test_auc_of_a_known_turn() -> None:
    target = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    target[1, 0, 3] = 1.0
    turned = target.clone()
    angle = torch.deg2rad(torch.tensor(10.5, dtype=torch.float64))
    turned[1, :3, :3] = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    turn, along = pair_errors(turned, target)
    assert turn.item() == pytest.approx(10.5)
    assert along.item() == pytest.approx(0, abs=1e-3)
    assert camera_auc(turned, target) == pytest.approx(20 / 30)
    backwards = target.clone()
    backwards[1, 0, 3] = -1.0
    assert camera_auc(backwards, target) == 0


def _turned(*degrees: float) -> torch.Tensor:
    """Cameras at one place, turned about y."""
    T = torch.eye(4).repeat(len(degrees), 1, 1)
    a = torch.deg2rad(torch.tensor(degrees))
    T[:, 0, 0], T[:, 0, 2], T[:, 2, 0], T[:, 2, 2] = a.cos(), a.sin(), -a.sin(), a.cos()
    return T


def test_a_pan_is_judged_by_its_rotation() -> None:
    pan = _turned(0, 10, 20)
    assert camera_auc(pan, pan) == 1
    trembling = pan.clone()
    trembling[:, :3, 3] = 1e-6 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    assert camera_auc(pan, trembling) == camera_auc(trembling, pan) == 1
    too_far = _turned(0, 15.5, 31)  # 5.5, 5.5 and 11 degrees off
    assert camera_auc(too_far, pan) == pytest.approx((25 + 25 + 19) / 90)


def test_a_still_clip_is_perfect_unless_the_cameras_turn() -> None:
    still = torch.eye(4).repeat(4, 1, 1)
    assert camera_auc(still, still) == 1
    assert camera_auc(_turned(0, 40, 80, 120), still) == 0


def test_pairs_with_a_baseline_are_judged_by_their_direction_however_short_it_is() -> None:
    walk = torch.eye(4).repeat(3, 1, 1)
    walk[:, 0, 3] = torch.tensor([0.0, 0.002, 1.0])
    aside = walk.clone()
    aside[1, :3, 3] = torch.tensor([0.0, 0.002, 0.0])  # one direction is off by 90 degrees
    assert camera_auc(aside, walk) == pytest.approx(2 / 3)
    walk[1, 0, 3], aside[1, 2, 3] = 0.0009, 0.0009
    aside[1, 1, 3] = 0
    assert camera_auc(aside, walk) == 1


@given(seeds)
def test_depth_inliers_and_ranks_ignore_scale_and_invalid_pixels(seed: int) -> None:
    target = 1 + torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(seed))
    valid = target > 1.2
    depth = torch.where(valid, 5 * target, 100)
    assert depth_inliers(depth, target, valid) == 1
    assert rank_correlation(depth.sqrt(), target, valid) == pytest.approx(1)
    assert rank_correlation(-depth, target, valid) == pytest.approx(-1)
    assert rank_correlation(torch.ones_like(depth), target, valid) == 0


def test_depth_inliers_of_a_known_share() -> None:
    target = torch.full((1, 10, 10), 2.0)
    depth = target.clone()
    depth[:, :3] = 2 * 1.2
    depth[:, 8:] = 2 / 1.3
    assert depth_inliers(depth, target, target > 0) == pytest.approx(0.8)
    assert depth_inliers(depth, target, target > 0, ratio=1.1) == pytest.approx(0.5)


def test_ranks_of_frames_that_have_none() -> None:
    target = torch.arange(8.0).reshape(2, 2, 2)
    assert rank_correlation(target, target, target > 5) == pytest.approx(1)  # the first frame has no valid pixel
    assert math.isnan(rank_correlation(target, torch.ones_like(target), target >= 0))


@given(seeds)
def test_trajectory_error_ignores_similarities_but_not_mirrors(seed: int) -> None:
    target, world = random_poses(seed, 6), random_poses(seed + 1, 1)[0]
    moved = world @ target
    moved[:, :3, 3] *= 3
    assert trajectory_error(moved, target) < 1e-6
    mirrored = target.clone()
    mirrored[:, 0, 3] *= -1
    assert trajectory_error(mirrored, target) > 1e-3


def test_trajectory_error_of_standing_still_is_the_spread_of_the_path() -> None:
    walk = torch.eye(4).repeat(5, 1, 1)
    walk[:, 2, 3] = torch.arange(5.0)
    assert trajectory_error(torch.eye(4).repeat(5, 1, 1), walk) == pytest.approx(2**0.5 / 4)
    assert pair_distances(walk).tolist() == [1, 2, 3, 4, 1, 2, 3, 1, 2, 1]


def test_fine_detail_of_a_ramp_and_of_a_chessboard() -> None:
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert fine_detail(ramp) == 0
    chess = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * torch.ones(1, 3, 1, 1)
    assert fine_detail(chess) == 4
