"""Pluecker rays, and the folding of frames into latent time."""

import torch
from torch import Tensor


def pluecker_rays(T_world_camera: Tensor, K_px: Tensor, height: int, width: int) -> Tensor:
    """Pluecker coordinates (o x d, d) of every pixel's ray, [..., 6, F, H, W] (Gen3R, sec. 3.3).

    T_world_camera: [..., F, 4, 4]; K_px: [..., F, 3, 3]. d has unit length; pixel centres lie at +0.5.
    """
    y, x = torch.meshgrid(
        torch.arange(height, device=K_px.device, dtype=K_px.dtype) + 0.5,
        torch.arange(width, device=K_px.device, dtype=K_px.dtype) + 0.5,
        indexing="ij",
    )
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
