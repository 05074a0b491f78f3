"""Image, depth and camera metrics. Each takes float32 tensors and returns one number per clip."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11  # pixels
NO_BASELINE = 1e-3  # of the longest baseline of a clip: pairs of cameras that are nearer have no direction
ROUNDING = 1e-5  # what float32 poses of a still camera may differ by, in a unit in which the scene is about 1 in size


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1], of any equal shape."""
    return float(-10 * torch.log10((image - target).square().mean().clamp_min(1e-10)))


def ssim(images: Tensor, target: Tensor) -> float:
    """Structural similarity of images [F, 3, H, W] in [0, 1], mean over frames (Wang et al. 2004).

    Images with a side under the window's 11 pixels are continued by their last row or column.
    """
    from skimage.metrics import structural_similarity

    missing = [max(0, SSIM_WINDOW - side) for side in images.shape[-2:]]
    images, target = (F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate") for x in (images, target))
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
    """AbsRel of a clip, [F, H, W], over its valid pixels, with one scale for the clip; NaN where no pixel is valid."""
    depth, target = depth[valid].clamp_min(1e-6), target[valid]
    return float(((scale(depth, target) * depth - target).abs() / target).mean())


def depth_inliers(depth: Tensor, target: Tensor, valid: Tensor, ratio: float = 1.25) -> float:
    """The share of a clip's valid pixels, [F, H, W], whose depth is within a factor `ratio` of the target (delta_1).

    One scale for the clip, the L1 scale. NaN where no pixel is valid.
    """
    depth, target = depth[valid].clamp_min(1e-6), target[valid]
    quotient = l1_scale(depth, target) * depth / target
    return float((torch.maximum(quotient, 1 / quotient) < ratio).double().mean())


def rank_correlation(depth: Tensor, target: Tensor, valid: Tensor) -> float:
    """Spearman's rank correlation of depth, [F, H, W], over the valid pixels of each frame, mean over frames.

    It is 1 where the order from near to far is right, whatever the scale, and 0 for constant depth. A frame without two
    different targets does not count; NaN where there is no other.
    """
    from scipy.stats import spearmanr

    frames = [(d[v].numpy(), t[v].numpy()) for d, t, v in zip(depth, target, valid, strict=True)]
    found = [float(spearmanr(d, t)[0]) if np.ptp(d) > 0 else 0.0 for d, t in frames if len(t) and np.ptp(t) > 0]  # pyright: ignore[reportArgumentType]
    return float(np.mean(found)) if found else math.nan


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
    along = torch.where(moved_apart(target), along, 1)
    turn, direction = (torch.rad2deg(torch.arccos(c.clamp(-1, 1))) for c in (cosine, along))
    return turn, direction


def moved_apart(T_world_camera: Tensor) -> Tensor:
    """The pairs of cameras [F, 4, 4] that have a baseline, bool [F(F-1)/2]: see `pair_errors`."""
    baseline = pair_distances(T_world_camera)
    longest = baseline.max() if len(baseline) else 0.0
    return baseline > max(NO_BASELINE * float(longest), ROUNDING)


def camera_auc(T_world_camera: Tensor, target: Tensor, limit: int = 30) -> float:
    """AUC@limit: the share of pairs whose larger error is under t degrees, mean over t = 1..limit (VGGT, sec. 4.1).

    Of pairs without a baseline only the rotation counts: the rule `ignore_gt_t_thr` of LoFTR's evaluation. VGGT's own
    script counts them as misses; its test clips have none.
    """
    return error_auc(torch.maximum(*pair_errors(T_world_camera, target)), limit)


def error_auc(error: Tensor, limit: int = 30) -> float:
    """The share of errors [N] in degrees that are under t degrees, mean over t = 1..limit; 1 where there is none."""
    if not len(error):
        return 1.0
    thresholds = torch.arange(1, limit + 1, dtype=error.dtype)
    return float((error[:, None] < thresholds).double().mean())


def pair_distances(T_world_camera: Tensor) -> Tensor:
    """Distances between the cameras [F, 4, 4] of every pair, in the order of `pair_errors`."""
    centres = T_world_camera[:, :3, 3].double()
    i, j = torch.triu_indices(len(centres), len(centres), 1)
    return (centres[i] - centres[j]).norm(dim=-1)


def trajectory_error(T_world_camera: Tensor, target: Tensor) -> float:
    """Absolute trajectory error (Sturm et al. 2012): the RMS distance of camera centres [F, 4, 4] from the target's.

    It is taken after the similarity that aligns the centres best (Umeyama 1991), in units of the target's path length.
    It is 0 for a target that stands still (within `ROUNDING` a step): a similarity brings any path onto one point.
    """
    ours, truth = (T[:, :3, 3].double() for T in (T_world_camera, target))
    length = truth.diff(dim=0).norm(dim=-1).sum()
    if length <= ROUNDING * len(truth):
        return 0.0
    ours, truth = ours - ours.mean(0), truth - truth.mean(0)
    U, S, Vh = torch.linalg.svd(truth.mT @ ours)
    flip = torch.ones(3, dtype=S.dtype)
    flip[2] = torch.linalg.det(U @ Vh).sign()  # a rotation, not a reflection
    scale = (S * flip).sum() / ours.square().sum().clamp_min(1e-12)
    aligned = scale * ours @ (U * flip @ Vh).mT
    return float((aligned - truth).square().sum(-1).mean().sqrt() / length)


def fine_detail(images: Tensor) -> float:
    """The mean absolute Laplacian of images [F, 3, H, W]: how much there is of what blur takes first.

    It is 0 for images with a side under 3 pixels, which have no inner one.
    """
    if min(images.shape[-2:]) < 3:
        return 0.0
    kernel = images.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(images.flatten(0, 1)[:, None], kernel).abs().mean())
