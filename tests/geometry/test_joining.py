"""Overlapping chunks, and the similarities that join them."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.joining import Similarity, fit_similarity, overlapping_chunks, windows
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.scene import Scene, join_scenes
from tests.poses import random_cameras, random_poses, seeds

factors = st.floats(0.1, 10)


@given(st.integers(1, 200), st.integers(2, 20), st.data())
def test_chunks_cover_all_and_overlap(count: int, length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    chunks = overlapping_chunks(count, length, overlap)
    assert sorted({number for chunk in chunks for number in chunk}) == [*range(count)]
    assert {len(chunk) for chunk in chunks} == {min(length, count)}
    assert all(a.start < b.start <= a.stop - overlap for a, b in zip(chunks, chunks[1:], strict=False))
    assert [*windows(iter(range(count)), chunks)] == [[*chunk] for chunk in chunks]


def seen(seed: int, count: int, size: tuple[int, int] = (9, 12)) -> tuple[Tensor, Cameras]:
    depth = 1 + torch.rand(count, *size, generator=torch.Generator().manual_seed(seed))
    return depth, random_cameras(seed, count, *size).relative_to_first()


def distorted(seed: int, scale: float, depth: Tensor, cameras: Cameras) -> tuple[Tensor, Cameras]:
    """The same in another frame and unit."""
    return scale * depth, Similarity(scale, random_poses(seed, 1)[0]).moved(cameras)


@given(seeds, factors)
def test_a_similarity_is_found(seed: int, scale: float) -> None:
    depth, cameras = seen(seed, 4)
    other_depth, other = distorted(seed + 1, scale, depth, cameras)
    found = fit_similarity(depth, cameras, other_depth, other)
    torch.testing.assert_close(found.scale * other_depth, depth, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.moved(other).T_world_camera, cameras.T_world_camera, rtol=0, atol=1e-4)


def test_depth_gives_the_scale_of_cameras_that_stand_still() -> None:
    depth, cameras = seen(0, 3)
    still = replace(cameras, T_world_camera=torch.eye(4).repeat(3, 1, 1))
    wrong = depth.clone()
    wrong[:, :, :4] = torch.tensor([0.0, torch.inf, torch.nan, 50.0])
    assert abs(fit_similarity(2 * depth, still, wrong, still).scale - 2) < 1e-4
    assert fit_similarity(torch.zeros(3, 9, 12), still, depth, still).scale == 1


@settings(max_examples=10)
@given(seeds, st.integers(8, 40), factors)
def test_distorted_chunks_are_put_together(seed: int, count: int, scale: float) -> None:
    depth, cameras = seen(seed, count)
    frames = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 9, 12, 3)
    chunks = overlapping_chunks(count, 7, 2)

    def chunk(number: int, numbers: range) -> Scene:
        part = slice(numbers.start, numbers.stop)
        z, taken = depth[part], cameras[part]
        if number:
            z, taken = distorted(seed + number, scale, z, taken.relative_to_first())
        points, mask, own = unproject(z, taken.T_world_camera, taken.K_px), valid_depth_mask(z), {"first": not number}
        return Scene(frames[part], z, torch.full_like(z, number + 1), points, mask, taken, "", own)

    joined = join_scenes(chunks, (chunk(*x) for x in enumerate(chunks)))
    assert torch.equal(joined.frames, frames)
    torch.testing.assert_close(joined.depth, depth, rtol=1e-3, atol=0)
    torch.testing.assert_close(joined.cameras.T_world_camera, cameras.T_world_camera, rtol=0, atol=2e-3)
    assert torch.equal(joined.cameras.K_px, cameras.K_px)
    assert torch.equal(joined.points, unproject(joined.depth, joined.cameras.T_world_camera, joined.cameras.K_px))
    assert (joined.confidence.diff(dim=0) >= 0).all()  # each frame is that of one chunk, in order
    assert joined.settings == {"first": True}
