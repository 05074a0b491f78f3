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
    one that has any; where none has, the mean of the pictures. All float32 and on one device.
    """
    colours, dense = (x.repeat_interleave(POINTS, -2).repeat_interleave(POINTS, -1) for x in (pictures, depth))
    poses, K_px = (x.to(depth.device) for x in (cameras.T_world_camera, cameras.K_px))
    points = unproject(dense, poses[places], K_px[places] * K_px.new_tensor([[POINTS], [POINTS], [1.0]]))
    nearest, known = _nearest_points(*project(points.flatten(0, 2), poses, K_px), cameras.height, cameras.width)
    images = colours.movedim(1, -1).flatten(0, 2)[nearest]
    images = torch.where(known[..., None], images, pictures.mean((0, 2, 3)))
    images = images.flatten(1, 2).gather(1, _nearest_known(known)[..., None].expand(-1, -1, 3))
    return images.unflatten(1, known.shape[1:]).movedim(-1, 1), known


def _nearest_points(pixel: Tensor, z: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which of N points is nearest in every pixel, [F, H, W], and whether any is there.

    pixel: [F, N, 2], z: [F, N]. Of points that are as near as each other, the last.
    """
    frames, count = z.shape
    drawn = ((pixel >= 0) & (pixel < pixel.new_tensor([width, height]))).all(-1) & (z > NEAR)
    x, y = torch.where(drawn[..., None], pixel, 0).long().unbind(-1)
    place = torch.arange(frames, device=z.device)[:, None] * height * width + y * width + x
    place = torch.where(drawn, place, frames * height * width)  # one place beyond the last is for the others
    # depth, then number from the last on, in one integer: the bits of positive floats are in their order
    key = z.contiguous().view(torch.int32).long() << 32 | torch.arange(count - 1, -1, -1, device=z.device)
    nothing = torch.iinfo(torch.int64).max
    first = (
        key.new_full((frames * height * width + 1,), nothing)
        .scatter_reduce_(0, place.flatten(), key.flatten(), "amin")[:-1]
        .view(frames, height, width)
    )
    return torch.where(first == nothing, 0, count - 1 - (first & 0xFFFFFFFF)), first != nothing


def _nearest_known(known: Tensor) -> Tensor:
    """For every pixel of bool [F, H, W] the number of the known one that is nearest in its frame, [F, H * W].

    A frame without any keeps its own pixels.
    """
    own = np.arange(known[0].numel()).reshape(known.shape[1:])
    frames = []
    for frame in known.cpu().numpy():
        rows, columns = (
            np.asarray(distance_transform_edt(~frame, return_distances=False, return_indices=True))
            if frame.any()
            else np.indices(frame.shape)
        )
        frames.append(own[rows, columns].ravel())
    return torch.from_numpy(np.stack(frames)).to(known.device)
