"""Alignment of point sets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gen3r.errors import InputError


@dataclass(frozen=True)
class Similarity:
    """x -> scale * R x + t."""

    scale: float
    R: Tensor
    t: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """The points [..., 3] moved."""
        return self.scale * points @ self.R.mT + self.t


def umeyama(source: Tensor, target: Tensor, with_scale: bool = True) -> Similarity:
    """The similarity that brings source [N, 3] nearest to target [N, 3] in least squares (Umeyama, 1991, eq. 40-42).

    Raises:
        InputError: fewer than three pairs, values that are not finite, or points all on one spot.
    """
    if source.shape != target.shape or source.ndim != 2 or len(source) < 3:
        raise InputError(
            f"alignment needs at least 3 pairs of points, not {list(source.shape)} and {list(target.shape)}"
        )
    x, y = source.double(), target.double()
    if not (x.isfinite().all() and y.isfinite().all()):
        raise InputError("alignment needs finite points; leave out those that are not")
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    variance = x.square().sum(1).mean()
    if variance < 1e-18:
        raise InputError("alignment needs points that are not all on one spot")
    U, D, Vh = torch.linalg.svd(y.mT @ x / len(x))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.sign(torch.linalg.det(U) * torch.linalg.det(Vh))
    R = U @ torch.diag(sign) @ Vh
    scale = float((D * sign).sum() / variance) if with_scale else 1.0
    return Similarity(scale, R.to(source.dtype), (mean_y - scale * R @ mean_x).to(source.dtype))
