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


def surface_normals(depth: Tensor, K_px: Tensor, pixels: Tensor) -> Tensor:
    """Unit normals [N, 3] in the camera's axes, towards the camera, of pixels [N] of z-depth [H, W].

    pixels: indices into the flat image. A plane's inverse depth is linear in the pixel, so its gradient gives the
    normal n: n (x, y, 1) = c / z for the ray (x, y, 1) = ((u - cx) / fx, (v - cy) / fy, 1). Depth that is not finite
    and positive counts as infinitely far. Along a side of one pixel, the plane does not tilt.
    """
    inverse = _inverse_depth(depth)
    along_y, along_x = (
        torch.gradient(inverse, dim=d)[0] if inverse.shape[d] > 1 else torch.zeros_like(inverse) for d in (0, 1)
    )
    along_x, along_y, inverse = (x.flatten()[pixels] for x in (along_x, along_y, inverse))
    fx, fy, cx, cy = (K_px[i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    u, v = pixels % depth.shape[1] + 0.5, pixels // depth.shape[1] + 0.5
    away = torch.stack([fx * along_x, fy * along_y, inverse - (u - cx) * along_x - (v - cy) * along_y], -1)
    return -F.normalize(away, dim=-1, eps=1e-20)


def grazing_angles(depth: Tensor, K_px: Tensor) -> Tensor:
    """The angle [H, W] at which each pixel of z-depth [H, W] sees its surface, in degrees: 90 from straight ahead."""
    height, width = depth.shape
    normals = surface_normals(depth, K_px, torch.arange(depth.numel())).reshape(height, width, 3)
    rays = F.normalize(unproject(torch.ones_like(depth), torch.eye(4), K_px), dim=-1)
    return torch.rad2deg((normals * rays).sum(-1).abs().clamp(max=1).asin())


def depth_edges(depth: Tensor, tolerance: float) -> Tensor:
    """Where z-depth [..., H, W] has an edge: its inverse bends by more than `tolerance` of itself between neighbours.

    A plane's inverse depth does not bend, however steeply the plane is seen. Pixels on both sides of a jump do.
    """
    inverse = _inverse_depth(depth)
    edges = torch.zeros_like(inverse, dtype=torch.bool)
    for dim in (-2, -1):
        inner = max(0, inverse.shape[dim] - 2)
        before, here, after = (inverse.narrow(dim, min(i, inverse.shape[dim] - inner), inner) for i in range(3))
        bent = (before - 2 * here + after).abs() > tolerance * here
        edges.narrow(dim, inner and 1, inner).logical_or_(bent)
    return edges


def _inverse_depth(depth: Tensor) -> Tensor:
    """0 where depth is not finite and positive."""
    return torch.where(depth.isfinite() & (depth > 0), 1 / depth, 0)


def window_mean(images: Tensor, size: int) -> Tensor:
    """Means of images [..., N, H, W] over squares of `size` pixels, an odd number, cut off at the margin."""
    half = size // 2
    for _ in range(2):  # columns, then rows; sums grow by doubling, which is faster than torch's pooling
        images = images.mT
        n = images.shape[-1]
        sums, width, total, start = F.pad(images, (half, half)), 1, torch.zeros_like(images), 0
        while width <= size:
            if size & width:
                total = total + sums[..., start : start + n]
                start += width
            sums, width = sums[..., :-width] + sums[..., width:], 2 * width
        at = torch.arange(n, device=images.device)
        images = total / ((at + half).clamp_max(n - 1) - (at - half).clamp_min(0) + 1)
    return images
