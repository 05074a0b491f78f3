"""Plane sweep: refines the depth of two images with known cameras."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.geometry.points import project, unproject, window_mean

FACTORS = torch.linspace(-0.6, 0.6, 41).exp()  # of the initial depth, that are tried
MAX_DIFFERENCE = 0.015  # mean difference of colours at which the cost of a pixel saturates
WINDOWS = 7  # that fit in the shorter side of an image
MIN_SHARED = 0.1  # share of a window's pixels that must project into the other image
PRIOR_WEIGHT = 2.0  # of the squared logarithm of a factor, in the unit of the cost


def sharpened_depth(images: Tensor, depth: Tensor, T_world_camera: Tensor, K_px: Tensor) -> Tensor:
    """The depth of two images, [2, H, W], for which each pixel's window best matches the other image.

    images: [2, 3, H, W] in [0, 1]. depth: the initial z-depth [2, H, W]. T_world_camera: [2, 4, 4]. K_px: [2, 3, 3].
    All on one device.

    For each pixel we keep the factor of the initial depth with the least cost: the mean difference of colours over the
    window's pixels that project into the other image, cut off at `MAX_DIFFERENCE`, plus a prior that grows with the
    factor's distance from 1. Windows that the other image does not show, or that match it nowhere, keep the initial
    depth. The factors are averaged over the window.
    """
    height, width = depth.shape[-2:]
    factors, logs, unchanged = FACTORS.to(depth)[:, None, None], FACTORS.log().to(depth), len(FACTORS) // 2
    prior = PRIOR_WEIGHT * logs[:, None, None] ** 2
    window = 2 * (min(height, width) // (2 * WINDOWS)) + 1
    chosen = []
    for one, other in ((0, 1), (1, 0)):
        points = unproject(factors * depth[one], T_world_camera[one], K_px[one])
        pixel, z = project(points.flatten(1, 2), T_world_camera[other], K_px[other])
        place = 2 * pixel / pixel.new_tensor([width, height]) - 1
        inside = ((place.abs() < 1).all(-1) & (z > 0)).to(depth)
        colours = F.grid_sample(images[other][None], place[None], padding_mode="border", align_corners=False)[0]
        difference = (colours - images[one].flatten(1)[:, None]).abs().mean(0)
        difference = difference.clamp_max(MAX_DIFFERENCE) / MAX_DIFFERENCE
        unlike, shared = (window_mean(x.view(-1, height, width), window) for x in (difference * inside, inside))
        cost = torch.where(shared > MIN_SHARED, unlike / shared.clamp_min(MIN_SHARED), 1) + prior
        best = torch.where(shared[unchanged] > MIN_SHARED, cost.argmin(0), unchanged)
        chosen.append(window_mean(logs[best][None], window)[0].exp())
    return depth * torch.stack(chosen)
