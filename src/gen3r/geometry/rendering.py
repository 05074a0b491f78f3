"""Pictures seen from other cameras by their depth alone."""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.points import project, unproject

POINTS = 3  # a side of each pixel, so that surfaces that come nearer stay whole
NEAR = 1e-3  # of the cameras' unit: what is nearer than that, or behind, is not drawn


def render_views(pictures: Tensor, depth: Tensor, places: list[int], cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Pictures [n, 3, H, W] as all cameras see what is in them, [F, 3, H, W], and where that is known, bool [F, H, W].

    depth: [n, H, W], in the cameras' unit. places: which of the cameras took the pictures. Each pixel is drawn as
    points of its own colour and depth, the nearest on top. A pixel that none falls on takes the colour of the nearest
    one that has any; where none has, the mean of the pictures. CPU, float32.
    """
    colours, dense = (x.repeat_interleave(POINTS, -2).repeat_interleave(POINTS, -1) for x in (pictures, depth))
    K = cameras.K_px[places] * torch.tensor([[POINTS], [POINTS], [1.0]])
    points = unproject(dense, cameras.T_world_camera[places], K).flatten(0, 2)
    pixel, z = project(points, cameras.T_world_camera, cameras.K_px)
    size = pixel.new_tensor([cameras.width, cameras.height])
    drawn = ((pixel >= 0) & (pixel < size)).all(-1) & (z > NEAR)
    colours, mean = colours.transpose(0, 1).flatten(1), pictures.mean((0, 2, 3))
    frames = [
        _paint(colours[:, d], p[d], z[d], mean, cameras.height, cameras.width)
        for p, z, d in zip(pixel, z, drawn, strict=True)
    ]
    images, known = (torch.stack(x) for x in zip(*frames, strict=True))
    return images, known


def _paint(colours: Tensor, pixel: Tensor, z: Tensor, mean: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Points of `colours` [3, N] at pixels [N, 2] and depths [N] as a picture, holes filled, and where none was."""
    order = z.argsort(descending=True, stable=True)
    x, y = pixel[order].long().numpy().T
    canvas = np.broadcast_to(mean[:, None, None].numpy(), (3, height, width)).copy()
    hole = np.ones((height, width), dtype=bool)
    canvas[:, y, x], hole[y, x] = colours[:, order].numpy(), False  # the last of several stays
    if not hole.all():
        rows, columns = np.asarray(distance_transform_edt(hole, return_distances=False, return_indices=True))
        canvas = canvas[:, rows, columns]
    return torch.from_numpy(canvas), torch.from_numpy(~hole)
