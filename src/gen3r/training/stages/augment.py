"""Batches of clips: sampling and augmentation of frames, and patch correspondences from the true geometry."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.data.records import ClipSource, MixedClips
from gen3r.geometry.points import project
from gen3r.training.stages.stage import Batch


def clip_batch(
    clips: ClipSource,
    rng: np.random.Generator,
    size: int,
    frames: int,
    any_order: bool = False,
    backwards: float = 0.5,
    mirrored: float = 0.0,
) -> Batch:
    """`size` clips of `frames` consecutive frames or, with `any_order`, of sorted random frames.

    All come from one of the sources of `MixedClips`.

    backwards, mirrored: probabilities of reversed time and of a horizontal flip.

    Returns:
        frames uint8 [B, F, 3, H, W], depth [B, F, H, W], T_world_camera [B, F, 4, 4], K_px [B, F, 3, 3], captions,
        jitter [B, 7] for `augment_colours`, zero_is_sky.
    """
    if isinstance(clips, MixedClips):
        clips = clips.sources[int(rng.integers(len(clips.sources)))]
    numbers, total = rng.integers(len(clips), size=size), clips.shape[0]
    chosen = []
    for _ in numbers:
        start = int(rng.integers(total - frames + 1))
        index = np.sort(rng.choice(total, frames, replace=False)) if any_order else start + np.arange(frames)
        chosen.append(torch.from_numpy(index[::-1].copy() if rng.random() < backwards else index))
    batch = clips.take(numbers.tolist(), torch.stack(chosen))
    batch["frames"] = batch["frames"].permute(0, 1, 4, 2, 3)
    batch["jitter"] = torch.from_numpy(rng.uniform(-1, 1, (size, 7))).float()
    batch["zero_is_sky"] = clips.zero_is_sky
    return mirror(batch, torch.from_numpy(rng.random(size) < mirrored))


def mirror(batch: Batch, chosen: Tensor) -> Batch:
    """The batch with the `chosen` clips, bool [B], flipped horizontally: frames, depth and cameras."""
    picked = chosen.to(batch["frames"].device)[:, None, None, None]
    flip = torch.diag(torch.tensor([-1.0, 1, 1, 1], device=picked.device))
    K = batch["K_px"].clone()
    K[..., 0, 2] = batch["frames"].shape[-1] - K[..., 0, 2]
    T = batch["T_world_camera"]
    return batch | {
        "frames": torch.where(picked[..., None], batch["frames"].flip(-1), batch["frames"]),
        "depth": torch.where(picked, batch["depth"].flip(-1), batch["depth"]),
        "T_world_camera": torch.where(picked, flip @ T @ flip, T),
        "K_px": torch.where(picked, K, batch["K_px"]),
    }


def patch_matches(
    depth: Tensor, T_world_camera: Tensor, points: Tensor, K_px: Tensor, patch: int, tolerance: float = 0.08
) -> tuple[Tensor, Tensor]:
    """Where every frame shows the surface points in the middle of every other frame's patches.

    depth: [B, F, H, W], 0 where unknown. T_world_camera: [B, F, 4, 4]. points: [B, F, H, W, 3] in the world.

    Returns:
        Bilinear weights [B, F, h * w, F, h * w] over the patches of a frame (last two axes) for each patch of another
        (second and third), and bool [B, F, h * w, F]: the point is visible in that frame.
    """
    frames, height, width = depth.shape[1:]
    h, w = height // patch, width // patch
    half = slice(patch // 2, None, patch)
    middle, known = points[:, :, half, half].flatten(1, 3), depth[:, :, half, half].flatten(1) > 0
    pixel, z = project(
        middle[:, None], T_world_camera, K_px
    )  # [B, F, F * h * w]: the frames that look, and the points of all frames
    pixel = torch.where(z[..., None] > 1e-3, pixel, torch.full_like(pixel, -1.0))
    size = pixel.new_tensor([width, height])
    grid = (2 * pixel / size - 1).flatten(0, 1)[:, :, None]
    surface = F.grid_sample(depth.flatten(0, 1)[:, None], grid, align_corners=False).view_as(z)
    agrees = (surface / z.clamp_min(1e-3) - 1).abs() < tolerance
    visible = known[:, None] & ((pixel > 0) & (pixel < size)).all(-1) & agrees
    # position in units of patches, from the middle of the first; a patch's weight is 1 - distance along either axis
    position = pixel / patch - 0.5
    position = torch.minimum(position.clamp_min(0), position.new_tensor([w - 1, h - 1]))
    columns = (1 - (position[..., :1] - torch.arange(w, device=depth.device)).abs()).clamp_min(0)
    rows = (1 - (position[..., 1:] - torch.arange(h, device=depth.device)).abs()).clamp_min(0)
    weights = (rows[..., :, None] * columns[..., None, :]).flatten(-2)
    weights, visible = (x.unflatten(2, (frames, h * w)) for x in (weights, visible))
    return weights.permute(0, 2, 3, 1, 4), visible.permute(0, 2, 3, 1)


def augment_colours(frames: Tensor, jitter: Tensor, strength: float = 0.2) -> Tensor:
    """Frames uint8 [B, F, 3, H, W] -> [0, 1], with one exposure, contrast and colour cast per clip.

    jitter: [B, 7] uniform in [-1, 1]: gains and offsets of three channels, and gamma.
    """
    x = frames.float() / 255
    gain = 1 + strength * jitter[:, None, :3, None, None]
    offset = 0.4 * strength * jitter[:, None, 3:6, None, None]
    gamma = torch.exp(strength * jitter[:, None, 6:, None, None])
    return ((x.clamp_min(1e-3) ** gamma) * gain + offset).clamp(0, 1)


def draw_degradations(rng: np.random.Generator, size: int, frames: int) -> Batch:
    """The blur [B, F] of every frame and the noise [B] of every clip, each 0 for half of the clips.

    Generated frames are blurrier far from a conditioning frame, and those of a moving camera now and then.
    """
    blur = rng.random((size, frames)) * rng.random((size, 1)) * (rng.random((size, 1)) < 0.5)
    grain = 0.05 * rng.random(size) ** 2 * (rng.random(size) < 0.5)
    return {"blur": torch.from_numpy(blur).float(), "grain": torch.from_numpy(grain).float()}


def degrade(images: Tensor, blur: Tensor, grain: Tensor) -> Tensor:
    """Images [B, F, 3, H, W] in [0, 1] with blur and noise.

    blur: [B, F], the weight of a mean over 7 x 7 pixels. grain: [B], the standard deviation of normal noise.
    """
    soft = F.avg_pool2d(images.flatten(0, 1), 7, stride=1, padding=3, count_include_pad=False).view_as(images)
    images = images + blur[..., None, None, None] * (soft - images)
    return (images + grain[:, None, None, None, None] * torch.randn_like(images)).clamp(0, 1)
