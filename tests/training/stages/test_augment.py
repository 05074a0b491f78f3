"""Batches of clips, their augmentation and their patch correspondences."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.cameras.camera import Cameras
from gen3r.data import shards
from gen3r.data.shards import ClipShards
from gen3r.geometry.points import unproject
from gen3r.training.stages.augment import (
    clip_batch,
    degrade,
    draw_degradations,
    mirror,
    patch_matches,
)

PATCH, GRID = 14, 4
SIZE = PATCH * GRID


def wall(*centres: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth, poses, points and intrinsics of cameras that look along z at a wall at z = 2."""
    n = len(centres)
    T = torch.eye(4).repeat(n, 1, 1)
    T[:, :3, 3] = torch.tensor(centres)
    cameras = Cameras.from_fov(T, 1.0, SIZE, SIZE)
    depth = (2 - T[:, 2, 3])[:, None, None].expand(n, SIZE, SIZE).contiguous()
    return depth[None], T[None], unproject(depth, T, cameras.K_px)[None], cameras.K_px[None]


def test_a_frame_matches_itself() -> None:
    weights, visible = patch_matches(*wall((0, 0, 0)), PATCH)
    assert visible.all()
    assert (weights.sum(-1) - 1).abs().max() < 1e-5
    # the middle of an even patch lies between pixels: half a pixel of 14 goes to the neighbours, along each axis
    assert weights[0, 0, :, 0].diagonal().min() > (1 - 0.5 / PATCH) ** 2 - 1e-3


def test_a_sideways_step_moves_the_match_by_its_parallax() -> None:
    depth, T, points, K = wall((0, 0, 0), (0, 0, 0))
    step = 2 * PATCH / K[0, 0, 0, 0]  # one patch at depth 2
    depth, T, points, K = wall((0, 0, 0), (float(step), 0, 0))
    weights, visible = patch_matches(depth, T, points, K, PATCH)
    grid = visible[0, 1, :, 0].view(GRID, GRID)
    assert grid[:, :-1].all()
    assert not grid[:, -1].any()  # what entered on the right was never seen
    numbers = torch.arange(GRID * GRID).view(GRID, GRID)
    best = weights[0, 1, :, 0].argmax(-1).view(GRID, GRID)[:, :-1]
    assert torch.equal(best, numbers[:, 1:])
    back = weights[0, 0, :, 1].argmax(-1).view(GRID, GRID)[:, 1:]
    assert torch.equal(back, numbers[:, :-1])


def test_hidden_and_unknown_surfaces_match_nothing() -> None:
    depth, T, points, K = wall((0, 0, 0), (0, 0, 0))
    depth[0, 0, :, : SIZE // 2] = 1.0  # something stood before the left half, in the first frame alone
    depth[0, 1, SIZE // 2 :] = 0.0  # and the lower half is sky in the second
    _, visible = patch_matches(depth, T, points, K, PATCH)
    grid = visible[0, 1, :, 0].view(GRID, GRID)
    assert not grid[:, : GRID // 2].any()
    assert not grid[GRID // 2 :].any()
    assert grid[: GRID // 2, GRID // 2 :].all()


def test_a_mirrored_clip_is_as_consistent_as_the_clip() -> None:
    cameras = Cameras.from_fov(torch.eye(4)[None], 1.0, SIZE, SIZE)
    depth = torch.linspace(1, 3, SIZE).expand(1, 1, SIZE, SIZE)
    K = cameras.K_px[None].clone()
    K[..., 0, 2] += 3
    T = torch.eye(4)[None, None].clone()
    T[..., 0, 3] = 0.7
    batch = {"frames": torch.arange(SIZE).expand(1, 1, 3, SIZE, SIZE), "depth": depth, "T_world_camera": T, "K_px": K}
    ours = mirror(batch, torch.tensor([True]))
    points, seen = (unproject(b["depth"], b["T_world_camera"], b["K_px"]) for b in (batch, ours))
    assert torch.allclose(seen.flip(-2), points * torch.tensor([-1.0, 1, 1]), atol=1e-5)
    assert torch.equal(ours["frames"].flip(-1), batch["frames"])
    assert torch.equal(mirror(batch, torch.tensor([False]))["depth"], depth)


def test_clips_in_memory_give_the_batches_of_the_files(training_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = ClipShards(training_data / "clips")
    monkeypatch.setattr(shards, "has_room", lambda device, size: size > 0)

    def drawn() -> dict:
        return clip_batch(clips, np.random.default_rng(3), 4, 5, any_order=True, mirrored=0.5)

    read = drawn()
    clips.hold(torch.device("cpu"))
    held = drawn()
    assert held["captions"] == read["captions"]
    tensors = {k: v for k, v in read.items() if isinstance(v, torch.Tensor)}
    assert [k for k, v in tensors.items() if not torch.equal(v, held[k])] == []


def test_degradations_are_blur_per_frame_and_noise_per_clip() -> None:
    degradations = draw_degradations(np.random.default_rng(0), 4000, 3)
    for values in degradations.values():
        assert 0.45 < (values.view(4000, -1).amax(1) == 0).float().mean() < 0.55
    assert degradations["blur"].max() < 1
    assert degradations["grain"].max() < 0.05
    blurred = degradations["blur"][degradations["blur"].amax(1) > 0]
    assert (blurred[:, 0] != blurred[:, 1]).all()

    images = torch.rand(2, 2, 3, 64, 64)
    none = torch.zeros(2, 2)
    assert torch.equal(degrade(images, none, none[0]), images)
    soft = degrade(images, torch.tensor([[1.0, 0.5], [0.0, 0.0]]), none[0])
    middle = images[0, 0, :, 10:17, 20:27].mean((1, 2))
    assert torch.allclose(soft[0, 0, :, 13, 23], middle, atol=1e-5)
    spread = soft.std((2, 3, 4))
    assert spread[0, 0] < 0.5 * spread[0, 1] < 0.5 * spread[1].min()
    grey = torch.full_like(images, 0.5)
    noisy = degrade(grey, none, torch.tensor([0.0, 0.04]))
    assert torch.equal(noisy[0], grey[0])
    assert (noisy[1].std() - 0.04).abs() < 2e-3
