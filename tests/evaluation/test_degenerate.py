"""Clips without motion, texture, depth or size: finite scores, or none."""

import math

import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.evaluation.metrics import (
    absolute_relative,
    camera_auc,
    depth_inliers,
    fine_detail,
    median_scale,
    psnr,
    ssim,
    trajectory_error,
)
from gen3r.evaluation.reconstruction import camera_scores, depth_scores
from gen3r.geometry.normalise import normalise_scene, unit_of_cameras
from gen3r.geometry.points import surface_normals
from tests.poses import random_poses

STILL = torch.eye(4).repeat(4, 1, 1)
PAN = random_poses(0, 4).float()
PAN[:, :3, 3] = torch.tensor([3.0, 4.0, 5.0])
MOVING = STILL.clone()
MOVING[:, 0, 3] = torch.arange(4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (10, 16)])
def test_images_of_any_size_and_without_texture(size: tuple[int, int]) -> None:
    black, white = torch.zeros(2, 3, *size), torch.ones(2, 3, *size)
    assert ssim(black, black) == ssim(white, white) == pytest.approx(1)
    assert ssim(black, white) < 0.01
    assert psnr(black, black) == 100
    assert psnr(black, white) == pytest.approx(0)
    assert fine_detail(black) == fine_detail(white) == 0


@pytest.mark.parametrize("truth", [STILL, PAN], ids=["still", "pan"])
@pytest.mark.parametrize("ours", [STILL, PAN, MOVING], ids=["still", "pan", "moving"])
def test_cameras_at_one_place_have_no_path_to_be_compared(ours: torch.Tensor, truth: torch.Tensor) -> None:
    scores = camera_scores(ours, truth, "left")
    assert all(math.isfinite(score) for score in scores.values())
    assert not [name for name in scores if name.startswith(("far", "ATE"))]
    assert (scores["AUC@30"] == 1) == ((ours is PAN) == (truth is PAN))
    assert trajectory_error(ours, truth) == 0


def test_a_still_answer_to_a_path_and_a_single_camera() -> None:
    scores = camera_scores(STILL, MOVING, "left")
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["ATE/length"] == scores["ATE/length, standing still"] > 0
    assert camera_scores(STILL[:1], STILL[:1], "left") == {}
    assert camera_auc(STILL[:1], STILL[:1]) == 1
    assert trajectory_error(MOVING[:1], MOVING[:1]) == 0


def test_depth_that_is_nowhere_known_or_the_same_everywhere() -> None:
    one = torch.ones(2, 4, 4)
    assert depth_scores(one, 0 * one) == {}
    for depth in (one, 0 * one, 1e9 * one):  # of one value: the scale makes it right for a wall
        for scale in (median_scale, None):
            error = absolute_relative(depth, one, one > 0, *([] if scale is None else [scale]))
            assert error == pytest.approx(0, abs=1e-6)
        assert depth_inliers(depth, one, one > 0) == 1
    assert all(math.isfinite(score) for score in depth_scores(one, one).values())
    assert math.isnan(absolute_relative(one, one, one < 0))


def test_alignment_without_depth_motion_or_size() -> None:
    K = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(4, 1, 1)
    for depth in (torch.zeros(4, 1, 1), torch.ones(4, 1, 1)):
        assert all(x.isfinite().all() for x in normalise_scene(depth, PAN, K))
    for ours in (STILL, PAN, MOVING):
        for theirs in (STILL, PAN, MOVING):
            assert 0 < float(unit_of_cameras(ours, theirs)) < 1e5
    assert float(unit_of_cameras(STILL, MOVING)) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_normals_of_a_strip_are_finite_and_face_the_camera(size: tuple[int, int]) -> None:
    cameras = Cameras.from_fov(torch.eye(4)[None], 1.0, *size)
    normals = surface_normals(torch.ones(size), cameras.K_px[0], torch.arange(size[0] * size[1]))
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0, -1]]).expand_as(normals))
