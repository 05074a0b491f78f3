"""VGGT's normalised scene: the first camera is the world, and the mean distance of the valid points from it is 1."""

import torch
from torch import Tensor

from gen3r.cameras.conventions import relative_to_first
from gen3r.geometry.points import unproject


def normalise_scene(depth: Tensor, T_world_camera: Tensor, K_px: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, poses and points of clips in the frame and unit that VGGT predicts (VGGT, sec. 3.4).

    depth: [..., F, H, W], 0 where unknown. T_world_camera: [..., F, 4, 4]. K_px: [..., F, 3, 3].
    Returns depth [..., F, H, W], poses [..., F, 4, 4], points [..., F, H, W, 3]. Without depth, the unit stays.
    """
    poses = relative_to_first(T_world_camera)
    points = unproject(depth, poses, K_px)
    valid = depth > 0
    unit = (points.norm(dim=-1) * valid).sum((-3, -2, -1)) / valid.sum((-3, -2, -1)).clamp_min(1)
    unit = torch.where(unit > 0, unit, 1)
    poses = poses.clone()
    poses[..., :3, 3] /= unit[..., None, None]
    return depth / unit[..., None, None, None], poses, points / unit[..., None, None, None, None]


def unit_of_cameras(T_world_camera: Tensor, predicted: Tensor) -> Tensor:
    """The length of VGGT's unit in the unit of cameras without depth, [...].

    T_world_camera: [..., F, 4, 4], in any world and unit. predicted: the same cameras as VGGT predicts them,
    [..., F, 4, 4]. The unit is the ratio of the RMS distances from the first camera (given / predicted). It is 1 for
    cameras that stand still within 1e-6; the predicted RMS distance is clamped to at least 1e-3.
    """
    ours, theirs = (
        relative_to_first(T)[..., :3, 3].square().sum((-2, -1)).sqrt() / T.shape[-3] ** 0.5
        for T in (T_world_camera, predicted)
    )
    return torch.where(ours > 1e-6, ours / theirs.clamp_min(1e-3), 1)
