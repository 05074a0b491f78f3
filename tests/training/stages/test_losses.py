"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from gen3r.training.stages import losses


def test_camera_loss_weighs_rounds_and_lens() -> None:
    target = torch.zeros(1, 2, 9)
    rounds = torch.zeros(2, 1, 2, 9)
    assert losses.camera_loss(rounds, target) == 0
    rounds[0, ..., :3] = 1.0
    assert losses.camera_loss(rounds, target).item() == pytest.approx(0.6 / 2)
    rounds[1, ..., 7:] = 1.0
    assert losses.camera_loss(rounds, target).item() == pytest.approx((0.6 + 0.5) / 2)


def test_relative_translation_loss_is_relative_and_counts_every_pair() -> None:
    truth = torch.eye(4).repeat(1, 3, 1, 1)
    truth[0, :, 0, 3] = torch.tensor([0.0, 1.0, 2.0])
    assert losses.relative_translation_loss(truth, truth) == 0
    ours = truth.clone()
    ours[0, :, 0, 3] *= 1.5  # every vector 50 % too long; a pair of a camera with itself counts 0
    assert losses.relative_translation_loss(ours, truth, floor=0.0001).item() == pytest.approx(0.5 * 6 / 9, rel=1e-3)


def test_confidence_trades_error_for_its_logarithm() -> None:
    error, valid = torch.full((1, 1, 2, 2), 0.1), torch.ones(1, 1, 2, 2, dtype=torch.bool)
    best = torch.tensor(2.0)  # alpha / error
    at = {c: losses.confidence_loss(error, torch.full_like(error, c), valid).item() for c in (1.0, 2.0, 4.0)}
    assert at[2.0] == pytest.approx(0.2 - 0.2 * math.log(best))
    assert at[2.0] < min(at[1.0], at[4.0])
    valid[..., 0] = False
    error[..., 0] = 1e6
    assert losses.confidence_loss(error, torch.full_like(error, 2.0), valid).item() == pytest.approx(at[2.0])


def test_depth_errors() -> None:
    target = 1 + torch.rand(1, 2, 5, 5)
    valid = torch.ones_like(target, dtype=torch.bool)
    scaled = losses.relative_depth_error(1.1 * target, target)
    torch.testing.assert_close(scaled, torch.full_like(target, 0.1 + math.log(1.1) / 4))
    assert (losses.relative_depth_error(target / 1.5, target) < losses.relative_depth_error(1.5 * target, target)).all()
    assert losses.gradient_loss(1.1 * target, target, valid) < 1e-6
    assert losses.gradient_loss(target.flip(-1), target, valid) > 1e-3
    assert losses.sky_loss(torch.full_like(target, 5.0), valid) == 0
    assert losses.sky_loss(torch.full_like(target, 2.0), valid).item() == pytest.approx(math.log(2))


def test_token_loss_vanishes_only_on_the_target() -> None:
    tokens = torch.randn(1, 10, 3, 2, 2)
    assert losses.token_loss(tokens, tokens, 2).item() == pytest.approx(0, abs=1e-6)
    assert losses.token_loss(tokens, 2 * tokens, 2) > 0.1
    camera = tokens.clone()
    camera[:, 8:] += 1
    assert losses.token_loss(camera, tokens, 2) > 0.5


@pytest.mark.parametrize(("kl", "reconstruction", "weight"), [(1.0, 10.0, 1.0), (100.0, 1.0, 1e-3), (5e3, 0.5, 1e-5)])
def test_kl_weight_is_a_power_of_ten_near_a_tenth(kl: float, reconstruction: float, weight: float) -> None:
    found = losses.adaptive_kl_weight(torch.tensor(kl), torch.tensor(reconstruction))
    assert found == pytest.approx(weight)


def test_flow_matching_drops_outliers() -> None:
    target = torch.zeros(1, 1, 1, 1, 4)
    velocity = torch.tensor([1.0, 1.0, 100.0, 1.0]).view(1, 1, 1, 1, 4)
    assert losses.flow_matching_loss(velocity, target).item() == pytest.approx(1.0)
    assert losses.flow_matching_loss(target, target) == 0


def test_matching_loss_is_zero_for_a_perfect_look() -> None:
    target = torch.tensor([0.25, 0.75, 0.0]).expand(1, 2, 3, 3)
    visible = torch.tensor([[[True, True, False], [False, False, True]]])
    perfect = target.clamp_min(1e-13).log()
    assert losses.matching_loss(perfect, target, visible).item() == pytest.approx(0, abs=1e-5)
    elsewhere = perfect.roll(1, -1)
    elsewhere[~visible] = perfect[~visible]
    assert losses.matching_loss(elsewhere, target, visible) > 5
    elsewhere[visible] = perfect[visible]
    assert losses.matching_loss(elsewhere, target, visible).item() == pytest.approx(0, abs=1e-5)
