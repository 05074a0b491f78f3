"""The stage of VGGT: batches of equal cost, and scenes whose depth is known in places."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.data.clips import ClipSampler
from gen3r.data.sampled_clips import SampledClips
from gen3r.geometry.points import unproject
from gen3r.training.stages.config import GeometryConfig
from gen3r.training.stages.geometry import _in_predicted_unit
from tests.data.test_sampled_clips import Sequences
from tests.data.test_virtual_camera import slope
from tests.training.stages import tiny_stage


def test_a_scene_takes_the_unit_of_the_predicted_depth() -> None:
    clip = slope()
    depth, T, K = clip.depth[None], clip.cameras.T_world_camera[None], clip.cameras.K_px[None]
    points = unproject(depth, T, K)
    predicted = 1.5 * depth * (1 + 0.01 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0)))
    scaled, poses, moved = _in_predicted_unit(predicted, depth, depth, T, points)
    torch.testing.assert_close(scaled, 1.5 * depth, rtol=1e-2, atol=0)
    known = depth > 0
    torch.testing.assert_close(unproject(scaled, poses, K)[known], moved[known])  # depth, poses and points agree
    assert torch.equal(poses[..., :3, :3], T[..., :3, :3])
    # a prediction that is far off does not carry the scene along, and one without known depth changes nothing
    limited, *_ = _in_predicted_unit(100 * depth, depth, depth, T, points)
    torch.testing.assert_close(limited, 2 * depth)
    same, *_ = _in_predicted_unit(predicted, 0 * depth, depth, T, points)
    torch.testing.assert_close(same, depth)


@pytest.mark.parametrize(("frames", "sizes"), [(1, {(56, 70), (112, 56)}), (4, {(56, 70), (112, 56)}), (8, {(28, 42)})])
def test_batches_have_about_as_many_pixels_in_any_size(
    training_data: Path, frames: int, sizes: set[tuple[int, int]]
) -> None:
    """Short clips are seen in the fine sizes."""
    stage = tiny_stage("geometry", training_data)
    stage.clips = SampledClips({"a": Sequences(3)}, ClipSampler(frames=8, height=56, width=56))
    stage.config = GeometryConfig(frames=(frames,), sizes=((28, 42),), fine_sizes=((56, 70), (112, 56)))
    seen = set()
    for seed in range(6):
        batch = stage.make_batch(np.random.default_rng(seed), 16)
        *_, height, width = batch["frames"].shape
        seen.add((height, width))
        assert 0.6 < batch["frames"].shape[0] * frames * height * width / (16 * 56 * 56) < 1.5
        assert not batch["zero_is_sky"]
    assert seen == sizes
