"""Virtual cameras: the same clip, seen by cameras that are turned and have another lens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.data.clips import ClipSampler
from gen3r.data.records import Clip, MixedClips
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.virtual_camera import draw_virtual_camera, look_through
from gen3r.errors import InputError
from gen3r.geometry.points import project, unproject
from gen3r.training.run import Run
from gen3r.training.stages.augment import clip_batch
from tests.data.test_sampled_clips import Sequences


def slope(frames: int = 3) -> Clip:
    """A plane at 4 + x / 2, whose colour says where it is, from cameras that move and turn; a strip has no depth."""
    T = torch.eye(4).repeat(frames, 1, 1)
    T[:, 0, 3] = torch.linspace(0, 0.4, frames)
    cameras = Cameras.from_fov(T, 1.0, 96, 128)
    rays = unproject(torch.ones(frames, 96, 128), torch.eye(4).expand(frames, 4, 4), cameras.K_px)
    depth = (4 + T[:, None, None, 0, 3] / 2) / (1 - rays[..., 0] / 2)
    points = unproject(depth, T, cameras.K_px)
    colours = 0.5 + 0.25 * torch.stack([points[..., 0].sin(), points[..., 1].sin(), points[..., 0].cos()], -1)
    depth[:, :, 60:70] = 0
    return Clip((255 * colours + 0.5).to(torch.uint8), depth, cameras, "a slope")


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), height=st.sampled_from([56, 84, 112]), width=st.sampled_from([56, 98, 140]))
def test_what_a_virtual_camera_sees_lies_where_it_was(seed: int, height: int, width: int) -> None:
    clip = slope()
    R, virtual = draw_virtual_camera(clip.cameras, height, width, np.random.default_rng(seed))
    seen = look_through(clip, R, virtual)
    assert seen.frames.shape == (3, height, width, 3)
    assert (seen.cameras.height, seen.cameras.width) == (height, width)
    known = seen.depth > 0
    points = unproject(seen.depth, virtual.T_world_camera, virtual.K_px)[known]
    # the plane, and the colour that says where; nearest depth is off by the slope of half a pixel
    torch.testing.assert_close(points[:, 2], 4 + points[:, 0] / 2, atol=0.08, rtol=0)
    true = 0.5 + 0.25 * torch.stack([points[:, 0].sin(), points[:, 1].sin(), points[:, 0].cos()], -1)
    assert (seen.frames[known] / 255 - true).abs().max() < 0.05
    # no margin is seen
    corners = torch.tensor([[0.0, 0], [width, 0], [0, height], [width, height]])
    far = torch.cat([corners, torch.ones(4, 1)], 1) @ torch.linalg.inv(virtual.K_px[0]).mT
    pixels, z = project(far, torch.eye(4)[None] @ torch.linalg.inv(_turn(R))[None], clip.cameras.K_px[:1])
    assert (z > 0).all()
    assert (pixels >= -0.5).all()
    assert (pixels <= torch.tensor([128.5, 96.5])).all()


def _turn(R: torch.Tensor) -> torch.Tensor:
    T = torch.eye(4)
    T[:3, :3] = R
    return T


def test_the_motion_of_a_virtual_camera_is_the_real_one() -> None:
    clip = slope()
    R, virtual = draw_virtual_camera(clip.cameras, 56, 56, np.random.default_rng(4))
    seen = look_through(clip, R, virtual)
    torch.testing.assert_close(seen.cameras.T_world_camera[0], torch.eye(4))
    moved = R @ seen.cameras.T_world_camera[:, :3, 3, None]  # in the axes of the real first camera
    torch.testing.assert_close(moved[..., 0], clip.cameras.centres, atol=1e-5, rtol=0)


def test_a_sampler_reads_the_frames_that_are_shown_alone() -> None:
    sampler = ClipSampler(frames=4, height=12, width=16)
    clips = SampledClips({"a": Sequences(3)}, sampler, 3)
    index = torch.tensor([[3, 1], [0, 2]])
    taken = clips.take([0, 2], index)
    for row, number in enumerate((0, 2)):
        assert torch.equal(taken["frames"][row], clips[number].frames[index[row]])
    assert clips.at_size(24, 32).take([1], index[:1])["frames"].shape == (1, 2, 24, 32, 3)
    assert clips.shape == (4, 12, 16)


def test_mixed_clips_take_turns_and_batches_come_from_one_source() -> None:
    sampler = ClipSampler(frames=4, height=12, width=16)
    a, b = (SampledClips({"a": Sequences(n)}, sampler, 8, seed=n) for n in (2, 5))
    mixed = MixedClips([a, b])
    assert len(mixed) == 16
    assert torch.equal(mixed[5].frames, b[2].frames)
    assert mixed.fingerprint(range(4)) != MixedClips([b, a]).fingerprint(range(4))
    rng = np.random.default_rng(0)
    for _ in range(8):
        batch = clip_batch(mixed.at_size(24, 32), rng, 3, 2)
        assert batch["frames"].shape == (3, 2, 3, 24, 32)


def test_online_training_mixes_in_the_datasets_of_the_run(tmp_path: Path) -> None:
    assert not isinstance(Run(tmp_path, online=True).clips(), MixedClips)
    scene = tmp_path / "train" / "standard"
    scene.mkdir(parents=True)
    with pytest.raises(InputError):
        Run(tmp_path, online=True).clips()
