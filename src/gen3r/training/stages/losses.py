"""Training losses, each its own function. Predictions and targets are float32."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ROUND_DECAY = 0.6
KLWeight = float | Literal["adaptive", "scheduled"]


def camera_loss(pose_enc: Tensor, target: Tensor) -> Tensor:
    """L1 between pose encodings of every refinement round and the true one (SPEC 7, VGGT).

    pose_enc: [R, B, F, 9], rounds in order; round r weighs 0.6^(R-1-r), averaged. target: [B, F, 9]. The field of
    view counts half.
    """
    rounds = len(pose_enc)
    weight = ROUND_DECAY ** torch.arange(rounds - 1, -1, -1, device=target.device, dtype=target.dtype)
    error = (pose_enc - target).abs()
    parts = error[..., :3].mean((1, 2, 3)) + error[..., 3:7].mean((1, 2, 3)) + 0.5 * error[..., 7:].mean((1, 2, 3))
    return (weight * parts).mean()


def baseline_error(T_world_camera: Tensor, target: Tensor, floor: float = 0.02) -> Tensor:
    """How far the vectors between all pairs of cameras are off, relative to the true ones: what AUC@30 judges.

    T_world_camera, target: [..., F, 4, 4], in VGGT's gauge. Camera centres alone are compared; `floor` bounds the
    weight of cameras that hardly move.
    """
    ours, truth = (T[..., None, :, :3, 3] - T[..., :, None, :3, 3] for T in (T_world_camera, target))
    return ((ours - truth).norm(dim=-1) / (truth.norm(dim=-1) + floor)).mean()


def confident(error: Tensor, confidence: Tensor, valid: Tensor, alpha: float = 0.2) -> Tensor:
    """Heteroscedastic weighting c * e - alpha * log c over the valid pixels (VGGT, eq. 2)."""
    return mean_where(valid, confidence * error - alpha * confidence.log())


def mean_where(valid: Tensor, error: Tensor) -> Tensor:
    """Mean error of the valid pixels; 0 without any."""
    return (error * valid).sum() / valid.sum().clamp_min(1)


def relative_depth_error(depth: Tensor, target: Tensor, limit: float = 4.0) -> Tensor:
    """|depth / target - 1|, at most `limit`, and a quarter of |log depth - log target|, a pixel, [B, F, H, W].

    The first is AbsRel itself, which forgives a depth that is too small sooner than one that is too large; the second
    keeps a slope where the first has none.
    """
    ratio = depth.clamp_min(1e-4) / target.clamp_min(1e-4)
    return (ratio - 1).abs().clamp_max(limit) + ratio.log().abs() / 4


def relative_point_error(points: Tensor, target: Tensor, distance: Tensor) -> Tensor:
    """log(1 + |points - target| / distance) a pixel, [B, F, H, W], with the true distance from the camera."""
    return torch.log1p((points - target).norm(dim=-1) / distance.clamp_min(1e-2))


def edge_error(depth: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L1 between the gradients of log depth and of log target, over pairs of valid neighbours."""
    difference = depth.clamp_min(1e-4).log() - target.clamp_min(1e-4).log()
    total = difference.new_zeros(())
    for dim in (-1, -2):
        n = difference.shape[dim] - 1
        both = valid.narrow(dim, 0, n) & valid.narrow(dim, 1, n)
        total = total + mean_where(both, difference.diff(dim=dim).abs().clamp_max(1.0))
    return total


def sky_error(depth: Tensor, sky: Tensor, at_least: float = 4.0) -> Tensor:
    """Asks of pixels without a surface only that they lie far away: relu(log at_least - log depth)."""
    short = F.relu(torch.log(torch.as_tensor(at_least)) - depth.clamp_min(1e-4).log())
    return mean_where(sky, short)


def matching_loss(log_attention: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Cross-entropy of log-attention [..., P] over the P patches of a frame with their true weights [..., P].

    visible: bool [...]; only these count. In nats above the target's own entropy: 0 is a perfect look.
    """
    cost = (target * (target.clamp_min(1e-8).log() - log_attention)).sum(-1)
    return mean_where(visible, cost)


def token_loss(tokens: Tensor, target: Tensor, camera_channels: int) -> Tensor:
    """Adapter reconstruction (SPEC 7): smooth L1, beta 0.15 on patch and 0.1 on camera channels, plus 1 - cosine.

    tokens, target: packed [B, C, F, h, w]; the last `camera_channels` channels hold the camera token.
    """
    patches = tokens.shape[1] - camera_channels
    smooth = F.smooth_l1_loss(tokens[:, :patches], target[:, :patches], beta=0.15)
    camera = F.smooth_l1_loss(tokens[:, patches:].mean((-1, -2)), target[:, patches:].mean((-1, -2)), beta=0.1)
    return smooth + camera + (1 - F.cosine_similarity(tokens, target, dim=1)).mean()


def kl_weight(setting: KLWeight, kl: Tensor, reconstruction: Tensor, progress: float) -> float:
    """The weight of the alignment term: a number, or "adaptive", or "scheduled".

    The last is the adaptive one, coming up from 0 over the first half of the run.
    """
    if isinstance(setting, (int, float)):
        return float(setting)
    return adaptive_kl_weight(kl, reconstruction) * (min(1.0, 2 * progress) if setting == "scheduled" else 1.0)


def adaptive_kl_weight(kl: Tensor, reconstruction: Tensor) -> float:
    """The power of ten that keeps the alignment term about a tenth of the reconstruction loss (SPEC 7)."""
    ratio = 0.1 * reconstruction.detach() / kl.detach().clamp_min(1e-12)
    return float(10.0 ** torch.round(torch.log10(ratio.clamp(1e-8, 1.0))))


def flow_matching_loss(velocity: Tensor, sample: Tensor, noise: Tensor, limit: float = 50.0) -> Tensor:
    """Mean squared error against noise - sample; entries whose squared error exceeds `limit` are dropped (SPEC 7)."""
    error = (velocity - (noise - sample)).square()
    return mean_where(error.detach() <= limit, error)
