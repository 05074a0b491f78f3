"""Optimizers: Muon against a reference, what it leaves to AdamW, and their states."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.optimizers import StageOptimizer
from gen3r.training.stages.stage import Stage
from tests.tiny import tiny_pipeline

CONFIG = TrainConfig(steps=1, batch_size=1, learning_rate=0.1, weight_decay=0.0)


def orthogonalised(update: Tensor) -> Tensor:
    """Newton-Schulz with Muon's coefficients (Jordan et al. 2024), here in float64."""
    x = update.T if update.shape[0] > update.shape[1] else update
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.T if update.shape[0] > update.shape[1] else x


def test_muon_follows_its_definition() -> None:
    """Nesterov momentum 0.95, orthogonalised, scaled to AdamW's size; torch iterates in bfloat16."""
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 32, bias=False), torch.randn(64, 24)
    optimizer = StageOptimizer(layer, replace(CONFIG, weight_decay=0.1))
    weight = layer.weight.detach().double()
    momentum = torch.zeros_like(weight)
    for _ in range(3):
        layer(x).square().mean().backward()
        assert layer.weight.grad is not None
        gradient = layer.weight.grad.double()
        momentum = 0.95 * momentum + 0.05 * gradient
        step = 0.1 * 0.2 * 32**0.5 * orthogonalised(0.05 * gradient + 0.95 * momentum)
        weight = (1 - 0.1 * 0.1) * weight - step
        optimizer.step()
        layer.zero_grad()
        assert (layer.weight - weight).norm() < 0.02 * step.norm()
        weight = layer.weight.detach().double()


def test_adamw_alone_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs, x = nn.Linear(24, 32), nn.Linear(24, 32), torch.randn(8, 24)
    theirs.load_state_dict(ours.state_dict())
    optimizers = (
        StageOptimizer(ours, replace(CONFIG, optimizer="adamw", weight_decay=0.1)),
        torch.optim.AdamW(theirs.parameters(), 0.1, weight_decay=0.1),
    )
    for _ in range(3):
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            layer(x).square().sum().backward()
            optimizer.step()
            layer.zero_grad()
    assert torch.equal(ours.weight, theirs.weight)


def test_muon_shares_memory_with_convolutions() -> None:
    conv = nn.Conv3d(16, 32, 3)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)
    optimizer = StageOptimizer(conv, CONFIG)
    before = conv.weight.detach().clone()
    conv(torch.randn(1, 16, 3, 3, 3)).sum().backward()
    optimizer.step()
    assert (conv.weight - before).abs().max() > 1e-4
    assert "weight/momentum_buffer" in optimizer.states()


def test_distances_of_words_move_faster_than_their_embeddings() -> None:
    encoder = tiny_pipeline().text_encoder.float().requires_grad_(True)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = StageOptimizer(encoder, replace(CONFIG, learning_rate=1e-3), Stage.outside_muon, Stage.fast_parameters)
    encoder(input_ids=torch.arange(8)[None]).last_hidden_state.square().sum().backward()
    optimizer.step()
    moved = {name: (p - before[name]).abs().max().item() for name, p in encoder.named_parameters()}
    distances = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert moved["shared.weight"] == pytest.approx(1e-3, rel=1e-2)
    assert moved[distances] == pytest.approx(1e-2, rel=1e-2)


def test_muon_steps_in_units_of_a_scale() -> None:
    torch.manual_seed(0)
    x, scale = torch.randn(64, 16), torch.logspace(-2, 2, 32)[:, None]
    plain, scaled = nn.Linear(16, 32), nn.Linear(16, 32)
    scaled.load_state_dict({"weight": plain.weight * scale, "bias": plain.bias})
    scaled.weight.step_scale = scale  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(3):
        for layer, unit in ((plain, torch.ones(32)), (scaled, scale[:, 0])):
            optimizer = StageOptimizer(layer, CONFIG)
            ((layer(x) - layer.bias) / unit).square().sum().backward()
            optimizer.step()
            layer.zero_grad()
    torch.testing.assert_close(scaled.weight / scale, plain.weight)


def test_states_are_there_before_the_first_step() -> None:
    """A parameter without a gradient so far has the state from which its first step starts."""
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 32), torch.randn(4, 16)
    fresh, loaded = StageOptimizer(layer, CONFIG), StageOptimizer(layer, CONFIG)
    states = fresh.states()
    assert {*states} == {"weight/momentum_buffer", "bias/exp_avg", "bias/exp_avg_sq", "bias/step"}
    loaded.load_states(states)
    weights = []
    for optimizer in (loaded, StageOptimizer(layer, CONFIG)):
        before = {name: p.detach().clone() for name, p in layer.named_parameters()}
        layer(x).square().sum().backward()
        optimizer.step()
        weights.append(layer.weight.detach().clone())
        layer.load_state_dict(before)
        layer.zero_grad()
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("bias/exp_avg", None, "has no optimizer state bias/exp_avg"),
        ("weight/momentum_buffer", None, "has no optimizer state weight/momentum_buffer"),
        (None, "elsewhere/exp_avg", "has an unknown optimizer state elsewhere/exp_avg"),
    ],
)
def test_a_partly_lost_state_is_refused_by_name(lost: str | None, added: str | None, message: str) -> None:
    optimizer = StageOptimizer(nn.Linear(16, 32), CONFIG)
    states = {name: torch.ones_like(value) for name, value in optimizer.states().items() if name != lost}
    if added:
        states[added] = torch.zeros(1)
    with pytest.raises(InputError, match=message):
        optimizer.load_states(states)
    assert not any(value.any() for value in optimizer.states().values())
