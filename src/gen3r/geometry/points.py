"""Points from depth and cameras, and which of them to believe."""

import numpy as np
import torch
from torch import Tensor


def unproject(depth: Tensor, T_world_camera: Tensor, K_px: Tensor, pixel_centre: float = 0.5) -> Tensor:
    """World points [..., H, W, 3] of z-depth [..., H, W] under camera-to-world [..., 4, 4] and intrinsics [..., 3, 3].

    pixel_centre: where in a pixel its ray passes; the published VGGT uses the corner, 0.

    A depth that is not finite gives the camera's centre, never a NaN; `valid_depth_mask` leaves it out.
    """
    height, width = depth.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=depth.device, dtype=depth.dtype) + pixel_centre,
        torch.arange(width, device=depth.device, dtype=depth.dtype) + pixel_centre,
        indexing="ij",
    )
    fx, fy, cx, cy = (K_px[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    z = torch.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
    local = torch.stack([(x - cx) / fx * z, (y - cy) / fy * z, z], -1)
    rotated = torch.einsum("...ij,...hwj->...hwi", T_world_camera[..., :3, :3], local)
    return rotated + T_world_camera[..., None, None, :3, 3]


def valid_depth_mask(depth: Tensor, low: float = 0.001, high: float = 0.98, max_depth: float = 50.0) -> Tensor:
    """Pixels [F, H, W] whose depth is finite, positive, at most `max_depth` and between two quantiles of its frame."""
    mask = depth.isfinite() & (depth > 0) & (depth <= max_depth)
    for frame, finite in zip(depth, mask, strict=True):
        values = frame[frame.isfinite() & (frame > 0)]
        if len(values):
            near, far = np.quantile(values.double().cpu().numpy(), [low, high])
            finite &= (frame >= near) & (frame <= far)
    return mask


def project(points: Tensor, T_world_camera: Tensor, K_px: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [..., N, 2] and z-depths [..., N] of world points [..., N, 3]; the inverse of `unproject`."""
    T = torch.linalg.inv(T_world_camera)
    local = points @ T[..., :3, :3].mT + T[..., None, :3, 3]
    z = local[..., 2]
    pixel = local @ K_px.mT
    return pixel[..., :2] / pixel[..., 2:], z
