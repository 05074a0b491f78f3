"""Batches of clips: sampling of frames, colour augmentation, and the true geometry in VGGT's gauge."""

import numpy as np
import torch
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


def augment_colours(frames: Tensor, jitter: Tensor, strength: float = 0.2) -> Tensor:
    """Frames uint8 [B, F, 3, H, W] -> [0, 1], with one drawn exposure, contrast and colour cast a clip.

    jitter: [B, 7] uniform in [-1, 1]: gains and offsets of three channels, and gamma.
    """
    x = frames.float() / 255
    gain = 1 + strength * jitter[:, None, :3, None, None]
    offset = 0.4 * strength * jitter[:, None, 3:6, None, None]
    gamma = torch.exp(strength * jitter[:, None, 6:, None, None])
    return ((x.clamp_min(1e-3) ** gamma) * gain + offset).clamp(0, 1)
