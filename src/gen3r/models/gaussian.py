"""Diagonal Gaussians over latents, and what they are normalised by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian a latent entry: `mean` and `logvar` of any one shape, [B, 16, f, h, w] here."""

    mean: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw: mean + std * noise, differentiable in both."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl_to(self, other: "DiagonalGaussian") -> Tensor:
        """KL(self || other) of every entry (Gen3R, the alignment term of sec. 3.2)."""
        spread = (self.logvar - other.logvar).exp()
        shift = (self.mean - other.mean).square() * (-other.logvar).exp()
        return 0.5 * (spread + shift - 1 - self.logvar + other.logvar)


def statistics(config: Mapping[str, Any], like: Tensor) -> tuple[Tensor, Tensor]:
    """A configuration's mean and spread of each latent channel, [1, 16, 1, 1, 1], on the device and in the type of
    `like`."""
    mean, std = (like.new_tensor(config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    return mean, std
