"""Points from depth and cameras, pixels from points, and the mask of valid depth."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.rays import pixel_grid


def unproject(depth: Tensor, T_world_camera: Tensor, K_px: Tensor, pixel_centre: float = 0.5) -> Tensor:
    """World points [..., H, W, 3] of z-depth [..., H, W] under camera-to-world [..., 4, 4] and intrinsics [..., 3, 3].

    pixel_centre: the position in a pixel that its ray passes through. The published VGGT uses the corner, 0.
    A depth that is not finite gives the camera's centre, never a NaN; `valid_depth_mask` excludes it.
    """
    x, y = pixel_grid(*depth.shape[-2:], like=depth, centre=pixel_centre)
    fx, fy, cx, cy = (K_px[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    z = torch.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
    local = torch.stack([(x - cx) / fx * z, (y - cy) / fy * z, z], -1)
    rotated = torch.einsum("...ij,...hwj->...hwi", T_world_camera[..., :3, :3], local)
    return rotated + T_world_camera[..., None, None, :3, 3]


def project(points: Tensor, T_world_camera: Tensor, K_px: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [..., N, 2] and z-depths [..., N] of world points [..., N, 3]; the inverse of `unproject`."""
    T = torch.linalg.inv(T_world_camera)
    local = points @ T[..., :3, :3].mT + T[..., None, :3, 3]
    z = local[..., 2]
    pixel = local @ K_px.mT
    return pixel[..., :2] / pixel[..., 2:], z


def valid_depth_mask(depth: Tensor, low: float = 0.001, high: float = 0.98, max_depth: float = 50.0) -> Tensor:
    """The valid pixels [F, H, W] of z-depth [F, H, W], as in the published implementation.

    A depth is valid if it is finite, positive, at most `max_depth`, and neither below the quantile `low` nor above the
    quantile `high` of the finite positive depths of its own frame.
    """
    mask = depth.isfinite() & (depth > 0) & (depth <= max_depth)
    for frame, valid in zip(depth, mask, strict=True):
        values = frame[frame.isfinite() & (frame > 0)]
        if len(values):
            near, far = np.quantile(values.double().cpu().numpy(), [low, high])
            valid &= (frame >= near) & (frame <= far)
    return mask


def window_mean(images: Tensor, size: int) -> Tensor:
    """Means of images [..., N, H, W] over squares of `size` pixels, an odd number, cut off at the margin."""
    half = size // 2
    images = F.avg_pool2d(images, (size, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(images, (1, size), 1, (0, half), count_include_pad=False)
