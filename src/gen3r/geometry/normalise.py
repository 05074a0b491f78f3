"""VGGT's gauge: the first camera is the world, the unit is the mean distance of the valid points from it."""

import torch
from torch import Tensor

from gen3r.geometry.points import unproject


def to_first_camera(T_world_camera: Tensor) -> Tensor:
    """Poses [..., F, 4, 4] relative to each clip's first camera, which becomes the identity."""
    return torch.linalg.inv(T_world_camera[..., :1, :, :]) @ T_world_camera


def to_vggt_gauge(depth: Tensor, T_world_camera: Tensor, K_px: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, poses and points of clips in VGGT's gauge (VGGT, sec. 3.4).

    depth [..., F, H, W], 0 where unknown; T_world_camera [..., F, 4, 4]; K_px [..., F, 3, 3].
    Returns depth [..., F, H, W], poses [..., F, 4, 4] and points [..., F, H, W, 3], all in the clip's unit.
    """
    poses = to_first_camera(T_world_camera)
    points = unproject(depth, poses, K_px)
    valid = depth > 0
    distance = points.norm(dim=-1) * valid
    unit = distance.sum((-3, -2, -1)) / valid.sum((-3, -2, -1)).clamp_min(1)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))
    poses = poses.clone()
    poses[..., :3, 3] /= unit[..., None, None]
    return depth / unit[..., None, None, None], poses, points / unit[..., None, None, None, None]


def seen_unit(seen: Tensor, T_world_camera: Tensor) -> Tensor:
    """The length of VGGT's unit in that of cameras without depth.

    seen: the poses [..., F, 4, 4] that VGGT predicts, which are in its gauge already; T_world_camera: the same cameras
    in another unit and world. Returns [...]: how far they are from the first, root mean square, the one against the
    other; 1 where they stand still, within 1e-6. What VGGT sees move by less than 1e-3 counts as moving by that much.
    """
    ours, theirs = (
        to_first_camera(T)[..., :3, 3].square().sum((-2, -1)).sqrt() / T.shape[-3] ** 0.5
        for T in (T_world_camera, seen)
    )
    return torch.where(ours > 1e-6, ours / theirs.clamp_min(1e-3), torch.ones_like(ours))
