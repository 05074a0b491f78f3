"""Points, masks, the gauge and alignment."""

import pytest
import torch
from hypothesis import given, settings

from gen3r.errors import InputError
from gen3r.geometry.alignment import umeyama
from gen3r.geometry.normalise import seen_unit, to_first_camera, to_vggt_gauge
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


def test_mask_cuts_each_frames_extremes() -> None:
    depth = torch.rand(2, 50, 50, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, 10.0])[:, None, None]
    kept = valid_depth_mask(depth).float().mean((1, 2))
    torch.testing.assert_close(kept, torch.tensor([0.979, 0.979]), atol=2e-3, rtol=0)


@given(seeds)
@settings(max_examples=20)
def test_gauge_has_unit_mean_distance_and_ignores_scale(seed: int) -> None:
    cameras = random_cameras(seed, 3, 8, 8)
    depth = 1 + torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    depth[0, :3] = 0
    d, T, P = to_vggt_gauge(depth, cameras.T_world_camera, cameras.K_px)
    torch.testing.assert_close(P.norm(dim=-1)[depth > 0].mean(), torch.tensor(1.0))
    torch.testing.assert_close(T[0], torch.eye(4), atol=1e-5, rtol=0)
    again = to_vggt_gauge(3 * depth, cameras.scaled(3.0).T_world_camera, cameras.K_px)
    for ours, theirs in zip((d, T, P), again, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@given(seeds)
@settings(max_examples=30)
def test_umeyama_recovers_a_similarity(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    source = torch.randn(30, 3, generator=g, dtype=torch.float64)
    T = random_poses(seed, 1)[0]
    target = 2.5 * source @ T[:3, :3].mT + T[:3, 3]
    found = umeyama(source, target)
    assert found.scale == pytest.approx(2.5)
    torch.testing.assert_close(found.apply(source), target)
    assert torch.linalg.det(found.R) == pytest.approx(1)


def test_umeyama_never_mirrors() -> None:
    source = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    found = umeyama(source, source * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.linalg.det(found.R).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("bad", [torch.zeros(2, 3), torch.ones(5, 3), torch.full((5, 3), float("nan"))])
def test_umeyama_refuses_what_has_no_answer(bad: torch.Tensor) -> None:
    with pytest.raises(InputError):
        umeyama(bad, bad)


@given(seeds)
def test_a_perfect_view_of_cameras_tells_their_unit(seed: int) -> None:
    """VGGT, were it right, sees the cameras in the gauge that depth would have given."""
    cameras = random_cameras(seed, 4, 10, 14)
    depth = 1 + torch.rand(4, 10, 14, generator=torch.Generator().manual_seed(seed))
    _, seen, _ = to_vggt_gauge(depth, cameras.T_world_camera, cameras.K_px)
    ours = to_first_camera(cameras.T_world_camera)
    unit = seen_unit(seen, cameras.T_world_camera)
    torch.testing.assert_close(seen[:, :3, 3] * unit, ours[:, :3, 3], atol=1e-4, rtol=1e-3)


def test_cameras_that_stand_still_have_the_unit_one() -> None:
    still = random_poses(3, 1).repeat(5, 1, 1)
    assert seen_unit(random_poses(4, 5), still) == 1
    assert seen_unit(still, random_poses(4, 5)).isfinite()
