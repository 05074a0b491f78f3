"""The baseline "depth warp": a picture seen from other cameras by its depth alone, with nothing made up."""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.points import project, unproject

POINTS = 3  # a side of each pixel, so that surfaces that come nearer stay whole
NEAR = 1e-3  # of the cameras' unit: what is nearer than that, or behind, is not drawn


def depth_warp(picture: Tensor, depth: Tensor, cameras: Cameras) -> Tensor:
    """The first camera's picture [3, H, W] as all of them see it, [F, 3, H, W].

    depth: [H, W] of the picture, in the cameras' unit. Each pixel is drawn as points of its own colour and depth, the
    nearest on top. A pixel that none falls on takes the colour of the nearest one that has any; where none has, the
    picture's mean.
    """
    colours, dense = (x.repeat_interleave(POINTS, -2).repeat_interleave(POINTS, -1) for x in (picture, depth))
    K = cameras.K_px[0] * torch.tensor([[POINTS], [POINTS], [1.0]])
    points = unproject(dense, cameras.T_world_camera[0], K).flatten(0, 1)
    pixel, z = project(points, cameras.T_world_camera, cameras.K_px)
    size = pixel.new_tensor([cameras.width, cameras.height])
    drawn = ((pixel >= 0) & (pixel < size)).all(-1) & (z > NEAR)
    return torch.stack([_paint(colours.flatten(1), p, z, d, picture) for p, z, d in zip(pixel, z, drawn, strict=True)])


def _paint(colours: Tensor, pixel: Tensor, z: Tensor, drawn: Tensor, picture: Tensor) -> Tensor:
    """Points of `colours` [3, N] at pixels [N, 2] and depths [N] as a picture, holes filled."""
    order = z[drawn].argsort(descending=True, stable=True)
    x, y = pixel[drawn][order].long().numpy().T
    canvas = np.broadcast_to(picture.mean((-2, -1), keepdim=True).numpy(), picture.shape).copy()
    hole = np.ones(picture.shape[-2:], dtype=bool)
    canvas[:, y, x], hole[y, x] = colours[:, drawn][:, order].numpy(), False  # the last of several stays
    if not hole.all():
        rows, columns = np.asarray(distance_transform_edt(hole, return_distances=False, return_indices=True))
        canvas = canvas[:, rows, columns]
    return torch.from_numpy(canvas)
