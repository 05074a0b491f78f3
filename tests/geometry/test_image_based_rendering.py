"""Photos drawn into other cameras, and what fills the rest."""

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.image_based_rendering import draw_depth, draw_photo, exposure_gain, push_pull, render_photos
from gen3r.geometry.points import unproject

SIZE = (48, 64)
GREY = torch.full((3, 3, 12, 16), 0.5)


def wall(T: Tensor, z: float = 2.0) -> tuple[Tensor, Tensor, Cameras]:
    """Pictures [F, 3, H, W] of a painted wall at z, its depth [F, H, W], and cameras of the poses [F, 4, 4]."""
    cameras = Cameras.from_fov(T, 1.0, *SIZE)
    depth = (z - T[:, 2, 3])[:, None, None].expand(-1, *SIZE).clone()
    x, y, _ = unproject(depth, T, cameras.K_px).unbind(-1)
    return torch.stack([(5 * x).sin(), (4 * y + 2 * x).sin(), (3 * x - 6 * y).cos()], 1) / 2 + 0.5, depth, cameras


def moved(*centres: tuple[float, float, float]) -> Tensor:
    T = torch.eye(4).repeat(len(centres), 1, 1)
    T[:, :3, 3] = torch.tensor(centres)
    return T


def generated(pictures: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(pictures, GREY.shape[-2:], mode="area")


def rendered(
    photos: Tensor,
    depth: Tensor,
    places: list[int],
    cameras: Cameras,
    frames: Iterable[int] = range(3),
    made: Tensor = GREY,
) -> tuple[Tensor, Tensor, Tensor]:
    drawn = render_photos(made, torch.full((3, 12, 16), 2.0), photos, depth, places, cameras, frames)
    colour, z, source = (torch.stack(x) for x in zip(*drawn, strict=True))
    return colour, z, source


def test_a_wall_is_seen_as_the_other_cameras_see_it() -> None:
    pictures, depth, cameras = wall(moved((0, 0, 0), (0.2, 0, 0), (0.1, 0.1, 0.3)))
    colour, z, source = rendered(pictures[:1], depth[:1], [0], cameras, made=generated(pictures))
    assert torch.equal(colour[0], pictures[0])
    assert torch.equal(z[0], depth[0])
    seen = source == 1
    assert seen.float().mean() > 0.85
    assert (z / depth - 1)[seen].abs().max() < 1e-4
    error = (colour - pictures).abs().amax(1)
    assert error[seen].quantile(0.95) < 0.02


@pytest.mark.parametrize(("brighter", "shift"), [(0.04, 0.02), (0.4, 0.025)])
def test_generated_frames_have_a_limited_share_of_the_coarse_colours(brighter: float, shift: float) -> None:
    pictures, depth, cameras = wall(moved((0, 0, 0), (0.1, 0, 0), (0.2, 0, 0)))
    pictures = 0.2 + 0.3 * pictures
    plain, _, _ = rendered(pictures[:1], depth[:1], [0], cameras, made=generated(pictures))
    colour, _, source = rendered(pictures[:1], depth[:1], [0], cameras, made=generated(pictures) + brighter)
    assert torch.equal(colour[0], pictures[0])
    assert (colour - plain)[1].mean(0)[source[1] == 1].mean() == pytest.approx(shift, abs=0.005)


def test_a_camera_that_stays_shows_the_photo_itself() -> None:
    pictures, depth, cameras = wall(moved((0, 0, 0), (0, 0, 0), (0, 0, 0)))
    colour, _, source = rendered(pictures[:1], depth[:1], [0], cameras)
    shown = source[2] == 1
    assert shown.float().mean() > 0.9
    assert (colour[2] - pictures[0]).abs()[:, shown].mean() < 1e-3


def test_what_no_photo_shows_is_marked_and_filled() -> None:
    pictures, depth, cameras = wall(moved((0, 0, 0), (0.3, 0, 0), (0.6, 0, 0)))
    colour, z, source = rendered(pictures[:1], depth[:1], [0], cameras)
    assert not source[2, :, -13:].any()
    assert colour.isfinite().all()
    assert (z / depth - 1).abs().max() < 0.05  # the wall goes on, in depth too


def test_behind_an_edge_the_background_goes_on() -> None:
    depth = torch.full((96, 128), 4.0)
    depth[:, 40:80] = 1.0
    photo = torch.where(depth == 1, torch.tensor([1.0, 0, 0])[:, None, None], torch.tensor([0, 0, 1.0])[:, None, None])
    cameras = Cameras.from_fov(moved((0, 0, 0), (0.15, 0, 0), (0.2, 0, 0)), 1.0, 96, 128)
    colour, z, source = rendered(photo[None], depth[None], [0], cameras)
    hole = source[1] == 0
    hole[:, -12:] = False  # the frame's margin
    assert hole.any()
    assert (z[1][hole] > 2.5).all()
    assert z[1][hole].mean() > 3.3
    assert (colour[1, 2] > colour[1, 0])[hole].float().mean() > 0.9


def test_what_appears_behind_an_edge_has_more_of_the_far_side() -> None:
    depth = torch.full((192, 256), 3.2)
    depth[:, 80:160] = 2.0
    photo = torch.where(depth == 2, 0.0, 0.8).expand(3, -1, -1)
    cameras = Cameras.from_fov(moved((0, 0, 0), (1.0, 0, 0), (1.2, 0, 0)), 1.0, 192, 256)
    colour, _, source = rendered(photo[None], depth[None], [0], cameras, made=torch.full((3, 3, 12, 16), 0.4))
    hole = (source[1] == 0)[:, 40:120]
    assert hole.any()
    assert colour[1, 0, :, 40:120][hole].mean() > 0.5


def test_edges_are_as_soft_as_a_pixel() -> None:
    depth = torch.full((96, 128), 4.0)
    depth += torch.arange(96)[:, None] * 0.001
    depth[torch.arange(128) + 0.3 * torch.arange(96)[:, None] < 70] = 2.0
    photo = torch.where(depth < 3, torch.ones(3, 1, 1), torch.zeros(3, 1, 1))
    cameras = Cameras.from_fov(moved((0, 0, 0), (-0.4, 0, 0), (-0.5, 0, 0)), 1.0, 96, 128)  # the near side covers more
    colour, _, source = rendered(photo[None], depth[None], [0], cameras)
    steps = colour[1, 0].diff(dim=-1).abs()[:, 30:110]
    assert (source[1] == 1)[:, 30:110].all()
    assert steps.amax(-1).quantile(0.9) < 0.75


@given(shift=st.floats(-0.3, 0.3), scale=st.floats(0.1, 10))
def test_the_unit_does_not_matter(shift: float, scale: float) -> None:
    pictures, depth, cameras = wall(moved((0, 0, 0), (shift, 0.05, 0.1)))
    a, b = (
        draw_photo(pictures[0], s * depth[0], *[(c.T_world_camera[i], c.K_px[i]) for i in (0, 1)])
        for s, c in ((1, cameras), (scale, cameras.scaled(scale)))
    )
    assert (a.opacity != b.opacity).float().mean() < 0.02  # rounding moves points over pixels' edges
    both = (a.opacity > 0) & (b.opacity > 0)
    assert (a.colour - b.colour)[:, both].abs().max() < 0.01


def test_of_two_photos_the_nearer_one_counts_more() -> None:
    _, depth, cameras = wall(moved((0, 0, 0), (0.1, 0, 0), (0.3, 0, 0)))
    photos = torch.stack([torch.full((3, *SIZE), x) for x in (0.5, 0.51)])
    colour, _, source = rendered(photos, depth[[0, 2]], [0, 2], cameras)
    assert (source[0] == 1).all()
    assert (source[2] == 2).all()
    assert (source[1, :, 20:44] == 1).all()
    assert torch.equal(colour[2], photos[1])


def test_exposures_are_found_and_change_evenly() -> None:
    pictures, depth, cameras = wall(moved((0, 0, 0), (0.1, 0, 0), (0.2, 0, 0)))
    pictures = 0.3 + 0.3 * pictures
    gain = torch.tensor([1.3, 1.0, 0.8])
    photos = torch.stack([pictures[0], pictures[2] * gain[:, None, None]])
    views = [(cameras.T_world_camera[i], cameras.K_px[i]) for i in (0, 2)]
    assert torch.allclose(exposure_gain(photos, depth[[0, 2]], views).exp(), gain, atol=0.03)
    colour, _, source = rendered(
        photos, depth[[0, 2]], [0, 2], cameras, made=generated(pictures * gain.sqrt()[:, None, None])
    )
    middle = (colour[1] / pictures[1]).where(source[1] > 0, torch.nan).flatten(1).nanmedian(1).values
    assert torch.allclose(middle, gain.sqrt(), atol=0.03)


def test_photos_that_share_nothing_keep_their_exposures() -> None:
    _, depth, cameras = wall(moved((0, 0, 0), (9.0, 0, 0)))
    photos = torch.stack([torch.full((3, *SIZE), x) for x in (0.3, 0.6)])
    views = [(cameras.T_world_camera[i], cameras.K_px[i]) for i in (0, 1)]
    assert not exposure_gain(photos, depth, views).any()


def test_a_camera_that_turns_away_shows_the_generated_frames() -> None:
    pictures, depth, cameras = wall(torch.eye(4).repeat(3, 1, 1) * torch.tensor([1.0, 1, 1, 1]))
    T = cameras.T_world_camera.clone()
    T[1:, 0, 0] = T[1:, 2, 2] = -1
    turned = Cameras(T, cameras.K_px, *SIZE)
    colour, z, source = rendered(pictures[:1], depth[:1], [0], turned)
    assert not source[1:].any()
    assert (colour[1:] - 0.5).abs().max() < 1e-5
    assert (z[1:] - 2).abs().max() < 1e-3


@pytest.mark.parametrize("forward", [0.0, 0.5, 1.0, 1.6, 1.75])
def test_surfaces_stay_closed_when_the_camera_comes_near(forward: float) -> None:
    _, depth, cameras = wall(moved((0, 0, 0), (0, 0, forward)))
    z = draw_depth(depth[0], *[(cameras.T_world_camera[i], cameras.K_px[i]) for i in (0, 1)])
    assert torch.allclose(z[2:-2, 2:-2], torch.tensor(2 - forward), atol=1e-4)


@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_push_pull_keeps_what_is_known_and_stays_between(height: int, width: int, seed: int) -> None:
    values = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    weight = (torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed + 1)) > 0.5).float()
    weight[0, 0, 0] = 1
    filled = push_pull(values * weight, weight)
    known = (weight > 0).expand_as(values)
    assert torch.allclose(filled[known], values[known], atol=1e-5)
    assert filled.min() >= values[known].min() - 1e-5
    assert filled.max() <= values[known].max() + 1e-5
