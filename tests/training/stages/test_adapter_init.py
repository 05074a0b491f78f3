"""The start of the adapter: a linear autoencoder before the first step."""

import torch

from gen3r.models.adapter import GeometryAdapter
from gen3r.training.stages.adapter_init import start_from_components


def test_it_restores_what_tokens_vary_most_in_before_any_step() -> None:
    torch.manual_seed(0)
    adapter = GeometryAdapter(token_channels=320, hidden_dim=32, multipliers=(2, 1, 1, 1), resample_scale=10)
    directions = torch.randn(320, 48) * torch.exp(-torch.arange(48) / 4)
    drift = torch.linspace(0, 1, 5)[:, None, None]  # clips that differ, and change slowly
    slow = torch.randn(64, 48, 1, 1, 1) + 0.3 * torch.randn(64, 48, 1, 1, 1) * drift
    scale = torch.rand(320, 1, 1, 1) * 10 + 0.1
    tokens = (5 + scale * torch.einsum("ck,bkfhw->bcfhw", directions, slow)).expand(-1, -1, -1, 4, 4)
    sample = tokens.transpose(0, 1).flatten(1)
    std = sample.std(1)[:, None, None, None]

    def unexplained() -> float:
        """The share of the tokens' variance that the round trip loses."""
        with torch.no_grad():
            again = adapter.decode(adapter.encode(tokens).mean)
        return float(((again - tokens) / std).square().mean())

    assert unexplained() > 0.9
    start_from_components(adapter, sample)
    assert unexplained() < 0.4
    posterior = adapter.encode(tokens[:1])
    torch.testing.assert_close(posterior.logvar, torch.full_like(posterior.logvar, -4.0))
