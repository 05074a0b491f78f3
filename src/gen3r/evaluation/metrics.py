"""Image, depth and camera metrics. Each takes float32 tensors and returns one number per clip."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NO_BASELINE = 1e-3  # of the longest baseline of a clip: pairs of cameras that are nearer have no direction
ROUNDING = 1e-5  # what float32 poses of a still camera may differ by, in a unit in which the scene is about 1 in size


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1], of any equal shape."""
    return float(-10 * torch.log10((image - target).square().mean().clamp_min(1e-10)))


def ssim(images: Tensor, target: Tensor) -> float:
    """Structural similarity of images [F, 3, H, W] in [0, 1], mean over frames (Wang et al. 2004)."""
    from skimage.metrics import structural_similarity

    as_published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(images.numpy(), target.numpy(), strict=True)
    scores = [structural_similarity(a, b, channel_axis=0, data_range=1.0, **as_published) for a, b in pairs]
    return float(np.mean(scores))


def median_scale(depth: Tensor, target: Tensor) -> Tensor:
    """The scale that aligns `depth` with `target` in the median, [N] each: usual for single images."""
    return target.median() / depth.median()


def l1_scale(depth: Tensor, target: Tensor) -> Tensor:
    """The scale with the least mean absolute error between `depth` and `target`, [N] each: usual for video depth.

    It is the median of target / depth, weighted by depth. CUT3R approximates it by ten reweighted least squares.
    """
    ratio, order = (target / depth).sort()
    weight = depth[order].double().cumsum(0)
    return ratio[torch.searchsorted(weight, weight[-1:] / 2)]


def absolute_relative(
    depth: Tensor, target: Tensor, valid: Tensor, scale: Callable[[Tensor, Tensor], Tensor] = l1_scale
) -> float:
    """AbsRel of a clip, [F, H, W], over its valid pixels, with one scale for the clip."""
    depth, target = depth[valid].clamp_min(1e-6), target[valid]
    return float(((scale(depth, target) * depth - target).abs() / target).mean())


def pair_errors(T_world_camera: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and translation-direction errors in degrees of every pair of cameras, [F(F-1)/2] each.

    T_world_camera, target: [F, 4, 4]. The sign of the direction counts: a camera that moves backwards is 180 degrees
    off. A pair whose true cameras stand at one place has no direction, and its translation error is 0. Such a pair is
    at most `NO_BASELINE` of the longest true baseline apart, or `ROUNDING` in the unit of `target`.
    """
    i, j = torch.triu_indices(len(target), len(target), 1)
    ours, truth = (torch.linalg.inv(T[i]) @ T[j] for T in (T_world_camera.double(), target.double()))
    rotation = ours[:, :3, :3].mT @ truth[:, :3, :3]
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    along = F.cosine_similarity(ours[:, :3, 3], truth[:, :3, 3], dim=-1)
    baseline = truth[:, :3, 3].norm(dim=-1)
    along = torch.where(baseline <= (NO_BASELINE * baseline.max()).clamp_min(ROUNDING), 1, along)
    turn, direction = (torch.rad2deg(torch.arccos(c.clamp(-1, 1))) for c in (cosine, along))
    return turn, direction


def camera_auc(T_world_camera: Tensor, target: Tensor, limit: int = 30) -> float:
    """AUC@limit: the share of pairs whose larger error is under t degrees, mean over t = 1..limit (VGGT, sec. 4.1).

    Of pairs without a baseline only the rotation counts: the rule `ignore_gt_t_thr` of LoFTR's evaluation. VGGT's own
    script counts them as misses; its test clips have none.
    """
    error = torch.maximum(*pair_errors(T_world_camera, target))
    thresholds = torch.arange(1, limit + 1, dtype=error.dtype)
    return float((error[:, None] < thresholds).double().mean())
