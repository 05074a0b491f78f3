"""VGGT and the packing of its tokens."""

import pytest
import torch

from gen3r.models.presets import tiny
from gen3r.models.tokens import pack_tokens, unpack_tokens
from gen3r.models.vggt import VGGT


@pytest.fixture(scope="module")
def vggt() -> VGGT:
    torch.manual_seed(0)
    model = VGGT(**tiny().vggt)
    model.init_weights()
    return model


def test_shapes_of_a_picture_that_is_not_square(vggt: VGGT) -> None:
    levels = vggt.tokens(torch.rand(2, 3, 3, 42, 70))
    assert [tuple(x.shape) for x in levels] == [(2, 3, 5 + 15, 64)] * 4
    seen = vggt.heads(levels, 42, 70)
    assert seen.pose_enc.shape == (4, 2, 3, 9)
    assert seen.depth.shape == seen.depth_confidence.shape == (2, 3, 42, 70)
    assert seen.points is not None
    assert seen.points.shape == (2, 3, 42, 70, 3)
    assert (seen.depth > 0).all()
    assert (seen.depth_confidence > 1).all()
    without = vggt.heads(levels, 42, 70, points=False)
    assert without.points is None
    assert torch.equal(without.depth, seen.depth)
    assert torch.equal(without.pose_enc, seen.pose_enc)


def test_frames_in_chunks_give_the_same_numbers(vggt: VGGT) -> None:
    levels = vggt.tokens(torch.rand(1, 5, 3, 28, 28))
    whole, chunked = vggt.dense(levels, 28, 28, frames_chunk=8), vggt.dense(levels, 28, 28, frames_chunk=2)
    torch.testing.assert_close(whole.depth, chunked.depth)
    torch.testing.assert_close(whole.points, chunked.points)


def test_the_first_frame_is_special_and_the_others_are_a_set(vggt: VGGT) -> None:
    images = torch.rand(1, 4, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    swapped = images[:, [0, 2, 1, 3]]
    pose, other = vggt(images).pose_enc[-1, 0], vggt(swapped).pose_enc[-1, 0]
    torch.testing.assert_close(pose[[0, 2, 1, 3]], other, atol=1e-4, rtol=1e-4)
    first_moved = vggt(images[:, [1, 0, 2, 3]]).pose_enc[-1, 0]
    assert (first_moved[[1, 0, 2, 3]] - pose).abs().max() > 1e-5


def test_every_weight_but_the_mask_token_is_trained(vggt: VGGT) -> None:
    seen = vggt(torch.rand(1, 2, 3, 28, 28))
    assert seen.points is not None
    (seen.pose_enc.sum() + seen.depth.log().sum() + seen.points.sum() + seen.depth_confidence.sum()).backward()
    still = [n for n, p in vggt.named_parameters() if p.grad is None]
    assert still == ["aggregator.patch_embed.mask_token"]
    vggt.zero_grad()


def test_packing_round_trip() -> None:
    levels = [torch.randn(2, 3, 5 + 6, 8) for _ in range(4)]
    packed = pack_tokens(levels, (2, 3))
    assert packed.shape == (2, 40, 3, 2, 3)
    again = unpack_tokens(packed)
    for ours, theirs in zip(again, levels, strict=True):
        torch.testing.assert_close(ours[:, :, 5:], theirs[:, :, 5:])
        camera = levels[-1][:, :, :1].expand(-1, -1, 5, -1)
        torch.testing.assert_close(ours[:, :, :5], camera)
