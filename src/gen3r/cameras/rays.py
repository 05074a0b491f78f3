"""Pixel grids, Pluecker rays, and the folding of frames into latent time."""

import torch
from torch import Tensor


def pixel_grid(height: int, width: int, like: Tensor, centre: float = 0.5) -> tuple[Tensor, Tensor]:
    """x and y [H, W] of every pixel's centre, in the type and on the device of `like`."""
    y, x = torch.meshgrid(
        *(torch.arange(n, device=like.device, dtype=like.dtype) + centre for n in (height, width)), indexing="ij"
    )
    return x, y


def pluecker_rays(T_world_camera: Tensor, K_px: Tensor, height: int, width: int) -> Tensor:
    """Pluecker coordinates (o x d, d) of every pixel's ray, [..., 6, F, H, W] (Gen3R, sec. 3.3).

    T_world_camera: [..., F, 4, 4]; K_px: [..., F, 3, 3]. d has unit length; pixel centres lie at +0.5.
    """
    x, y = pixel_grid(height, width, like=K_px)
    fx, fy, cx, cy = (K_px[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    local = torch.stack(torch.broadcast_tensors((x - cx) / fx, (y - cy) / fy, torch.ones_like(x)), -1)
    direction = torch.einsum("...ij,...hwj->...hwi", T_world_camera[..., :3, :3], local)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    origin = T_world_camera[..., None, None, :3, 3].expand_as(direction)
    rays = torch.cat([torch.linalg.cross(origin, direction), direction], -1)
    return rays.movedim(-1, -4)


def fold_frames(video: Tensor) -> Tensor:
    """[B, C, F, H, W] with F = 4k + 1 -> [B, 4C, k + 1, H, W]: the first frame four times, then frames in fours.

    Channel c of frame t within its four becomes channel 4c + t.
    """
    first = video[:, :, :1].expand(-1, -1, 4, -1, -1)
    video = torch.cat([first, video[:, :, 1:]], dim=2)
    return video.unflatten(2, (-1, 4)).transpose(2, 3).flatten(1, 2)
