"""What two pictures and their cameras say about their depth."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.geometry.points import project, unproject
from gen3r.geometry.windows import window_mean

FACTORS = torch.linspace(-0.6, 0.6, 41).exp()
CLEAR = 0.015  # a mean difference of colours from which on two pixels show different things
WINDOWS = 7  # that a picture's shorter side has room for
LEAST = 0.1  # share of a window's pixels that must be in the other picture
DOUBT = 2.0  # how much a factor of e costs, in shares of a window's pixels that no longer agree


def sharpened_depth(pictures: Tensor, depth: Tensor, T_world_camera: Tensor, K_px: Tensor) -> Tensor:
    """The depth of two pictures, [2, H, W], under which the pixels of each meet their like in the other.

    pictures: [2, 3, H, W] in [0, 1]. depth: [2, H, W], a first guess. T_world_camera: [2, 4, 4]. K_px: [2, 3, 3]. All
    on one device.

    A plane sweep about the guess: around every pixel, of all `FACTORS` the one with the least mean difference of
    colours, cut off at `CLEAR`, of the pixels in a window that the other picture has. Factors far from 1 need more
    evidence; windows without any, and those that the other picture has not, keep the guess. Of neighbouring factors
    the mean is taken.
    """
    height, width = depth.shape[-2:]
    factors, logs, same = FACTORS.to(depth)[:, None, None], FACTORS.log().to(depth), len(FACTORS) // 2
    doubt = DOUBT * logs[:, None, None] ** 2
    window = 2 * (min(height, width) // (2 * WINDOWS)) + 1
    found = []
    for one, other in ((0, 1), (1, 0)):
        points = unproject(factors * depth[one], T_world_camera[one], K_px[one])
        pixel, z = project(points.flatten(1, 2), T_world_camera[other], K_px[other])
        place = 2 * pixel / pixel.new_tensor([width, height]) - 1
        inside = ((place.abs() < 1).all(-1) & (z > 0)).to(depth)
        colours = F.grid_sample(pictures[other][None], place[None], padding_mode="border", align_corners=False)[0]
        difference = (colours - pictures[one].flatten(1)[:, None]).abs().mean(0).clamp_max(CLEAR) / CLEAR
        unlike, shared = (window_mean(x.view(-1, height, width), window) for x in (difference * inside, inside))
        cost = torch.where(shared > LEAST, unlike / shared.clamp_min(LEAST), 1) + doubt
        best = torch.where(shared[same] > LEAST, cost.argmin(0), same)
        found.append(window_mean(logs[best][None], window)[0].exp())
    return depth * torch.stack(found)
