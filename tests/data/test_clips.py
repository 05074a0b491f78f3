"""Clips out of sequences: which frames, which size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.data.clips import ClipSampler, clip_indices, load_clip
from gen3r.data.records import ClipRecord
from gen3r.data.synthetic import render_clip
from gen3r.errors import InputError
from gen3r.geometry.points import project
from tests.poses import random_cameras, seeds


def in_memory(frames: torch.Tensor, depth: torch.Tensor | None, cameras: Cameras, **more) -> ClipRecord:
    read_depth = None if depth is None else depth.__getitem__
    return ClipRecord("made", "0", cameras, frames.__getitem__, read_depth, **more)


def marked(count: int, height: int = 12, width: int = 16) -> ClipRecord:
    """Frame i is all i; so is its depth, plus one."""
    number = torch.arange(count)[:, None, None]
    frames = number[..., None].expand(-1, height, width, 3).to(torch.uint8)
    cameras = random_cameras(3, count, height, width)
    return in_memory(frames, number.expand(-1, height, width).float() + 1, cameras, captions=("one", "two"))


@given(st.integers(1, 80), st.integers(1, 20), st.integers(1, 4), seeds)
def test_indices(total: int, frames: int, stride: int, seed: int) -> None:
    indices = clip_indices(total, frames, stride, np.random.default_rng(seed))
    assert len(indices) == frames
    assert min(indices) >= 0
    assert max(indices) < total
    steps = set(np.diff(indices).tolist())
    if total >= (frames - 1) * stride + 1:
        assert steps <= {stride}
    elif total >= frames:
        assert steps <= {1}
    else:  # all of it, its ends repeated
        assert set(indices) == set(range(total))
        assert steps <= {0, 1}


def test_every_start_and_every_split_of_repeats_comes_up() -> None:
    rng = np.random.default_rng(0)
    assert {clip_indices(7, 3, 2, rng)[0] for _ in range(99)} == {0, 1, 2}
    leading = {clip_indices(3, 5, 2, rng).count(0) for _ in range(99)}
    assert leading == {1, 2, 3}


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_is_no_clip(bad: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        clip_indices(*bad, np.random.default_rng(0))


@given(seeds)
def test_the_sampler_keeps_to_its_strides_and_captions(seed: int) -> None:
    record = marked(40)
    clip = ClipSampler(frames=5, height=12, width=16, max_stride=3)(record, np.random.default_rng(seed))
    numbers = clip.frames[:, 0, 0, 0].tolist()
    assert len(set(np.diff(numbers).tolist())) == 1
    assert numbers[1] - numbers[0] in (1, 2, 3)
    assert torch.equal(clip.depth[:, 0, 0], torch.tensor(numbers) + 1.0)
    assert clip.caption in record.captions
    assert torch.equal(clip.cameras.T_world_camera[0], torch.eye(4))
    again = ClipSampler(frames=5, height=12, width=16, max_stride=3)(record, np.random.default_rng(seed))
    assert torch.equal(again.frames, clip.frames)


@given(seeds, st.sampled_from([(20, 20), (33, 20), (20, 47), (56, 56)]))
def test_intrinsics_follow_the_pixels(seed: int, size: tuple[int, int]) -> None:
    """A bright dot at a point's pixel is, after resizing and cropping, where the new camera sees the point."""
    rng = np.random.default_rng(seed)
    cameras = random_cameras(seed, 2, 41, 58)
    row, column = int(rng.integers(18, 24)), int(rng.integers(26, 33))
    frames = torch.zeros(2, 41, 58, 3, dtype=torch.uint8)
    frames[:, row, column] = 255
    clip = load_clip(in_memory(frames, None, cameras), [0, 1], *size)
    ray = torch.linalg.inv(cameras.K_px[0]) @ torch.tensor([column + 0.5, row + 0.5, 1.0])
    seen, _ = project(3 * ray[None], torch.eye(4), clip.cameras.K_px[0])
    weight = clip.frames[0, ..., 0].float()
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    centroid = torch.stack([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
    assert (centroid - seen[0]).norm() < 0.3


def test_depth_follows_the_pixels_and_the_unit_stays() -> None:
    made = render_clip(2, 3, 28, 28)
    clip = load_clip(in_memory(made.frames, made.depth, made.cameras), [0, 1, 2], 28, 28)
    assert torch.equal(clip.depth, made.depth)
    assert torch.equal(clip.cameras.T_world_camera, made.cameras.relative_to_first().T_world_camera)
    half = load_clip(in_memory(made.frames, made.depth, made.cameras), [0], 14, 14)
    assert torch.equal(half.depth[0], made.depth[0, 1::2, 1::2])


def test_a_picture_of_another_size_is_refused() -> None:
    record = marked(3)
    odd = in_memory(torch.zeros(3, 12, 12, 3, dtype=torch.uint8), None, record.cameras)
    with pytest.raises(InputError, match="image 0 is 12 x 12"):
        load_clip(odd, [0, 1], 12, 12)
