"""What two pictures and their cameras say about the scale of their depth."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.geometry.points import project, unproject

SCALES = torch.linspace(-0.7, 0.7, 29).exp()
CLEAR = 0.03  # a mean difference of colours from which on two pixels show different things
LEAST = 0.25  # share of a picture's pixels that must be in the other one
DOUBT = 0.4  # how much a scale of e costs: as if that share of the pixels no longer agreed


def depth_scales(pictures: Tensor, depth: Tensor, T_world_camera: Tensor, K_px: Tensor) -> Tensor:
    """A factor for the depth of each of two pictures, [2], under which its pixels meet their like in the other.

    pictures: [2, 3, H, W] in [0, 1]. depth: [2, H, W]. T_world_camera: [2, 4, 4]. K_px: [2, 3, 3]. All on one device.

    Of `SCALES` the one with the least mean difference of colours, cut off at `CLEAR`, of the pixels that the other
    picture has; these must be a quarter. Scales far from 1 need more evidence, so pictures without any keep theirs.
    """
    height, width = depth.shape[-2:]
    scales = SCALES.to(depth)
    found = []
    for one, other in ((0, 1), (1, 0)):
        scaled = scales[:, None, None] * depth[one]
        points = unproject(scaled, T_world_camera[one], K_px[one]).flatten(1, 2)
        pixel, z = project(points, T_world_camera[other], K_px[other])
        place = 2 * pixel / pixel.new_tensor([width, height]) - 1
        inside = (place.abs() < 1).all(-1) & (z > 0)
        colours = F.grid_sample(pictures[other][None], place[None], padding_mode="border", align_corners=False)[0]
        difference = (colours - pictures[one].flatten(1)[:, None]).abs().mean(0).clamp_max(CLEAR)
        shared = inside.sum(-1)
        cost = (difference * inside).sum(-1) / CLEAR / shared.clamp_min(1)
        cost = torch.where(shared > LEAST * inside.shape[-1], cost, 1)
        found.append(scales[(cost + DOUBT * scales.log() ** 2).argmin()])
    return torch.stack(found)
