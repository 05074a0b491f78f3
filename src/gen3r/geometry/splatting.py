"""Splatting of points through a z-buffer, and images warped to other cameras by their depth."""

import itertools

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.points import project, unproject

POINTS = 3  # per side of a pixel, so that surfaces stay closed when a camera approaches them
NEAR = 1e-3  # least z-depth, in the unit of the cameras, of a point that is drawn


def warp_views(images: Tensor, depth: Tensor, frame_indices: list[int], cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Images [n, 3, H, W] warped to all cameras, [F, 3, H, W], and where the warped views are known, bool [F, H, W].

    depth: z-depth [n, H, W] of the images, in the unit of the cameras. frame_indices: the positions of the images'
    cameras among `cameras`. Each pixel becomes `POINTS` x `POINTS` points of its colour and depth; the nearest point
    wins. A pixel without a point takes the colour of the nearest pixel that has one, or the mean of the images if its
    frame has none. All float32 and on one device.
    """
    colours, dense = (x.repeat_interleave(POINTS, -2).repeat_interleave(POINTS, -1) for x in (images, depth))
    poses, K_px = (x.to(depth.device) for x in (cameras.T_world_camera, cameras.K_px))
    points = unproject(dense, poses[frame_indices], K_px[frame_indices] * K_px.new_tensor([[POINTS], [POINTS], [1]]))
    pixel, z = project(points.flatten(0, 2), poses, K_px)
    nearest, known = nearest_points(pixel, z.where(z > NEAR, 0), cameras.height, cameras.width)
    warped = colours.movedim(1, -1).flatten(0, 2)[nearest]
    warped = torch.where(known[..., None], warped, images.mean((0, 2, 3)))
    warped = warped.flatten(1, 2).gather(1, _nearest_known(known)[..., None].expand(-1, -1, 3))
    return warped.unflatten(1, known.shape[1:]).movedim(-1, 1), known


def nearest_points(
    pixel: Tensor, z: Tensor, height: int, width: int, size: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The index of the nearest of N points in every pixel, [F, H, W], and whether any point is there, bool [F, H, W].

    pixel: [F, N, 2]. z: z-depth [F, N], float32; only points with z > 0 are drawn. size: [F, N], the side in pixels of
    the square that each point covers, to the right of and below its pixel; 1 by default. Of equally near points, the
    last one wins.
    """
    frames, count = z.shape
    start = torch.arange(frames, device=z.device)[:, None].expand(frames, count) * height * width
    # High bits: depth, since positive floats sort by their bits. Low bits: the index, counted from the last.
    keys = z.contiguous().view(torch.int32).long() << 32 | torch.arange(count - 1, -1, -1, device=z.device)
    empty = torch.iinfo(torch.int64).max
    buffer = keys.new_full((frames * height * width + 1,), empty)  # the last entry receives what is not drawn
    for reach in range(1 if size is None else int(size.max())):
        if size is not None:
            wide = size > reach
            pixel, z, start, keys, size = (x[wide] for x in (pixel, z, start, keys, size))
        for offset in itertools.product(range(reach + 1), repeat=2):
            if max(offset) == reach:
                moved = pixel + pixel.new_tensor(offset)
                drawn = ((moved >= 0) & (moved < pixel.new_tensor([width, height]))).all(-1) & (z > 0)
                x, y = torch.where(drawn[..., None], moved, 0).long().unbind(-1)
                place = torch.where(drawn, start + y * width + x, len(buffer) - 1)
                buffer.scatter_reduce_(0, place.flatten(), keys.flatten(), "amin")
    first = buffer[:-1].view(frames, height, width)
    return torch.where(first == empty, 0, count - 1 - (first & 0xFFFFFFFF)), first != empty


def _nearest_known(known: Tensor) -> Tensor:
    """For every pixel of bool [F, H, W], the index of the nearest known pixel in its frame, [F, H * W].

    A frame without a known pixel keeps its own indices.
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
