"""Training losses, each its own function. Predictions and targets are float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROUND_DECAY = 0.6


def camera_loss(pose_enc: Tensor, target: Tensor) -> Tensor:
    """L1 between the pose encodings of every refinement round and the true one (VGGT, sec. 3.3).

    pose_enc: [R, B, F, 9], rounds in order. Round r has the weight 0.6^(R-1-r), the field of view the weight 1/2.
    target: [B, F, 9].
    """
    rounds = len(pose_enc)
    weight = ROUND_DECAY ** torch.arange(rounds - 1, -1, -1, device=target.device, dtype=target.dtype)
    error = (pose_enc - target).abs()
    per_round = error[..., :3].mean((1, 2, 3)) + error[..., 3:7].mean((1, 2, 3)) + 0.5 * error[..., 7:].mean((1, 2, 3))
    return (weight * per_round).mean()


def relative_translation_loss(T_world_camera: Tensor, target: Tensor, floor: float = 0.02) -> Tensor:
    """Relative error of the vectors between the centres of all pairs of cameras, which AUC@30 judges.

    T_world_camera, target: [..., F, 4, 4], in VGGT's normalised frame. `floor` limits the weight of cameras that hardly
    move.
    """
    ours, truth = (T[..., None, :, :3, 3] - T[..., :, None, :3, 3] for T in (T_world_camera, target))
    return ((ours - truth).norm(dim=-1) / (truth.norm(dim=-1) + floor)).mean()


def confidence_loss(error: Tensor, confidence: Tensor, valid: Tensor, alpha: float = 0.2) -> Tensor:
    """Mean of c * e - alpha * log c over the valid pixels (VGGT, eq. 2)."""
    return mean_where(valid, confidence * error - alpha * confidence.log())


def mean_where(valid: Tensor, error: Tensor) -> Tensor:
    """Mean error of the valid pixels; 0 if there are none."""
    return (error * valid).sum() / valid.sum().clamp_min(1)


def relative_depth_error(depth: Tensor, target: Tensor, limit: float = 4.0) -> Tensor:
    """|depth / target - 1|, at most `limit`, plus |log depth - log target| / 4, per pixel: [B, F, H, W].

    The first term is AbsRel, which penalises small depths less than large ones. The second has a slope where the first
    has none.
    """
    ratio = depth.clamp_min(1e-4) / target.clamp_min(1e-4)
    return (ratio - 1).abs().clamp_max(limit) + ratio.log().abs() / 4


def relative_point_error(points: Tensor, target: Tensor, distance: Tensor) -> Tensor:
    """log(1 + |points - target| / distance) per pixel, [B, F, H, W]. distance: the true one from the camera."""
    return torch.log1p((points - target).norm(dim=-1) / distance.clamp_min(1e-2))


def gradient_loss(depth: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L1 between the gradients of log depth and log target, over pairs of valid neighbours."""
    difference = depth.clamp_min(1e-4).log() - target.clamp_min(1e-4).log()
    total = difference.new_zeros(())
    for dim in (-1, -2):
        n = difference.shape[dim] - 1
        both = valid.narrow(dim, 0, n) & valid.narrow(dim, 1, n)
        total = total + mean_where(both, difference.diff(dim=dim).abs().clamp_max(1.0))
    return total


def sky_loss(depth: Tensor, sky: Tensor, at_least: float = 4.0) -> Tensor:
    """relu(log at_least - log depth) over the pixels of the sky, which must only be far away."""
    short = F.relu(torch.log(torch.as_tensor(at_least)) - depth.clamp_min(1e-4).log())
    return mean_where(sky, short)


def matching_loss(log_attention: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """KL divergence in nats of attention over the P patches of a frame from the true weights: 0 is a perfect match.

    log_attention, target: [..., P]. visible: bool [...], the queries that count.
    """
    cost = (target * (target.clamp_min(1e-8).log() - log_attention)).sum(-1)
    return mean_where(visible, cost)


def token_loss(tokens: Tensor, target: Tensor, camera_channels: int) -> Tensor:
    """Smooth L1 with beta 0.15 on patch and 0.1 on camera channels, plus 1 - cosine (Gen3R, sec. 3.2).

    tokens, target: packed [B, C, F, h, w]; the last `camera_channels` channels hold the camera token.
    """
    patches = tokens.shape[1] - camera_channels
    smooth = F.smooth_l1_loss(tokens[:, :patches], target[:, :patches], beta=0.15)
    camera = F.smooth_l1_loss(tokens[:, patches:].mean((-1, -2)), target[:, patches:].mean((-1, -2)), beta=0.1)
    return smooth + camera + (1 - F.cosine_similarity(tokens, target, dim=1)).mean()


def adaptive_kl_weight(kl: Tensor, reconstruction: Tensor) -> float:
    """The power of ten that keeps the alignment term near a tenth of the reconstruction loss (Gen3R, sec. 3.2)."""
    ratio = 0.1 * reconstruction.detach() / kl.detach().clamp_min(1e-12)
    return float(10.0 ** torch.round(torch.log10(ratio.clamp(1e-8, 1.0))))


def flow_matching_loss(velocity: Tensor, target: Tensor, limit: float = 50.0) -> Tensor:
    """Mean squared error of the velocity, without entries whose squared error exceeds `limit`."""
    error = (velocity - target).square()
    return mean_where(error.detach() <= limit, error)
