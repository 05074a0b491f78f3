"""Batches of clips: sampling of frames, colour augmentation, and the true geometry in VGGT's gauge."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.data.shards import ClipShards
from gen3r.training.loop import Batch


def clip_batch(
    clips: ClipShards,
    rng: np.random.Generator,
    size: int,
    frames: int,
    any_order: bool = False,
    backwards: float = 0.5,
) -> Batch:
    """`size` clips of `frames` frames: a run of consecutive frames, or sorted random ones where `any_order`.

    frames uint8 [B, F, 3, H, W], depth [B, F, H, W], T_world_camera [B, F, 4, 4], K_px [B, F, 3, 3], captions.
    A share of the clips, `backwards`, is played in reverse.
    """
    records = [clips[int(i)] for i in rng.integers(len(clips), size=size)]
    chosen = []
    for record in records:
        total = len(record.frames)
        start = int(rng.integers(total - frames + 1))
        index = np.sort(rng.choice(total, frames, replace=False)) if any_order else start + np.arange(frames)
        chosen.append(torch.from_numpy(index[::-1].copy() if rng.random() < backwards else index))
    pairs = list(zip(records, chosen, strict=True))
    return {
        "frames": torch.stack([r.frames[i] for r, i in pairs]).permute(0, 1, 4, 2, 3),
        "depth": torch.stack([r.depth[i] for r, i in pairs]),
        "T_world_camera": torch.stack([r.cameras.T_world_camera[i] for r, i in pairs]),
        "K_px": torch.stack([r.cameras.K_px[i] for r, i in pairs]),
        "captions": [r.caption for r in records],
        "jitter": torch.from_numpy(rng.uniform(-1, 1, (size, 7))).float(),
    }


def matches_in_first_frame(
    depth: Tensor, T_world_camera: Tensor, points: Tensor, K_px: Tensor, patch: int, tolerance: float = 0.08
) -> tuple[Tensor, Tensor]:
    """Where the first frame shows what the middle of every patch shows.

    depth: [B, F, H, W], 0 where unknown. T_world_camera: [B, F, 4, 4]. points: [B, F, H, W, 3] in the world.

    Returns:
        Bilinear weights of the first frame's patches [B, F, h * w, h * w], and bool [B, F, h * w]: the surface is in
        the first frame and not hidden there.
    """
    height, width = depth.shape[-2:]
    h, w = height // patch, width // patch
    middle = points[:, :, patch // 2 :: patch, patch // 2 :: patch].flatten(2, 3)
    known = depth[:, :, patch // 2 :: patch, patch // 2 :: patch].flatten(2) > 0
    T_camera_world = torch.linalg.inv(T_world_camera[:, :1])
    local = middle @ T_camera_world[..., :3, :3].mT + T_camera_world[..., None, :3, 3]
    z = local[..., 2].clamp_min(1e-6)
    pixel = (local @ K_px[:, :1].mT)[..., :2] / z[..., None]
    size = pixel.new_tensor([width, height])
    seen = F.grid_sample(depth[:, :1], (2 * pixel / size - 1).flatten(1, 2)[:, :, None], align_corners=False)
    agrees = (seen.view_as(z) / z - 1).abs() < tolerance
    inside = ((pixel > 0) & (pixel < size)).all(-1)
    # position in units of patches, from the middle of the first; a patch weighs 1 - distance along either axis
    position = pixel / patch - 0.5
    position = torch.minimum(position.clamp_min(0), position.new_tensor([w - 1, h - 1]))
    columns = (1 - (position[..., :1] - torch.arange(w, device=depth.device)).abs()).clamp_min(0)
    rows = (1 - (position[..., 1:] - torch.arange(h, device=depth.device)).abs()).clamp_min(0)
    weights = (rows[..., :, None] * columns[..., None, :]).flatten(-2)
    return weights, known & inside & agrees & (local[..., 2] > 0)


def augment_colours(frames: Tensor, jitter: Tensor, strength: float = 0.2) -> Tensor:
    """Frames uint8 [B, F, 3, H, W] -> [0, 1], with one drawn exposure, contrast and colour cast a clip.

    jitter: [B, 7] uniform in [-1, 1]: gains and offsets of three channels, and gamma.
    """
    x = frames.float() / 255
    gain = 1 + strength * jitter[:, None, :3, None, None]
    offset = 0.4 * strength * jitter[:, None, 3:6, None, None]
    gamma = torch.exp(strength * jitter[:, None, 6:, None, None])
    return ((x.clamp_min(1e-3) ** gamma) * gain + offset).clamp(0, 1)
