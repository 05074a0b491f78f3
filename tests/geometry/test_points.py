"""Points, masks and the normalised scene."""

import torch
from hypothesis import given, settings

from gen3r.cameras.conventions import relative_to_first
from gen3r.geometry.normalise import normalise_scene, unit_of_cameras
from gen3r.geometry.points import project, unproject, valid_depth_mask
from tests.poses import random_cameras, random_poses, seeds


@given(seeds)
@settings(max_examples=20)
def test_projection_inverts_unprojection(seed: int) -> None:
    cameras = random_cameras(seed, 3, 10, 14)
    depth = 1 + torch.rand(3, 10, 14, generator=torch.Generator().manual_seed(seed))
    points = unproject(depth, cameras.T_world_camera, cameras.K_px)
    pixel, z = project(points.flatten(1, 2), cameras.T_world_camera, cameras.K_px)
    torch.testing.assert_close(z.view_as(depth), depth, atol=1e-3, rtol=1e-3)
    expected = torch.stack(torch.meshgrid(torch.arange(14) + 0.5, torch.arange(10) + 0.5, indexing="xy"), -1)
    torch.testing.assert_close(pixel.view(3, 10, 14, 2), expected.expand(3, -1, -1, -1), atol=2e-2, rtol=1e-3)


def test_unusable_depth_gives_no_nan() -> None:
    depth = torch.tensor([[[float("nan"), float("inf")], [-1.0, 2.0]]])
    cameras = random_cameras(0, 1, 2, 2)
    assert unproject(depth, cameras.T_world_camera, cameras.K_px).isfinite().all()
    assert valid_depth_mask(depth, 0, 1).tolist() == [[[False, False], [False, True]]]
    assert not valid_depth_mask(torch.full((1, 4, 4), 60.0)).any()
    assert not valid_depth_mask(torch.full((1, 4, 4), float("nan"))).any()
    assert valid_depth_mask(torch.full((1, 4, 4), 3.0)).all()


def test_mask_excludes_the_extremes_of_each_frame() -> None:
    depth = torch.rand(2, 50, 50, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, 10.0])[:, None, None]
    kept = valid_depth_mask(depth).float().mean((1, 2))
    torch.testing.assert_close(kept, torch.tensor([0.979, 0.979]), atol=2e-3, rtol=0)


@given(seeds)
@settings(max_examples=20)
def test_a_normalised_scene_has_unit_mean_distance_whatever_its_scale(seed: int) -> None:
    cameras = random_cameras(seed, 3, 8, 8)
    depth = 1 + torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    depth[0, :3] = 0
    d, T, P = normalise_scene(depth, cameras.T_world_camera, cameras.K_px)
    torch.testing.assert_close(P.norm(dim=-1)[depth > 0].mean(), torch.tensor(1.0))
    torch.testing.assert_close(T[0], torch.eye(4), atol=1e-5, rtol=0)
    again = normalise_scene(3 * depth, cameras.scaled(3.0).T_world_camera, cameras.K_px)
    for ours, theirs in zip((d, T, P), again, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@given(seeds)
def test_predicted_cameras_tell_the_unit_of_cameras_without_depth(seed: int) -> None:
    """A perfect VGGT predicts the cameras of the normalised scene."""
    cameras = random_cameras(seed, 4, 10, 14)
    depth = 1 + torch.rand(4, 10, 14, generator=torch.Generator().manual_seed(seed))
    _, predicted, _ = normalise_scene(depth, cameras.T_world_camera, cameras.K_px)
    ours = relative_to_first(cameras.T_world_camera)
    unit = unit_of_cameras(cameras.T_world_camera, predicted)
    torch.testing.assert_close(predicted[:, :3, 3] * unit, ours[:, :3, 3], atol=1e-4, rtol=1e-3)


def test_cameras_that_stand_still_have_the_unit_one() -> None:
    still = random_poses(3, 1).repeat(5, 1, 1)
    assert unit_of_cameras(still, random_poses(4, 5)) == 1
    assert unit_of_cameras(random_poses(4, 5), still).isfinite()
