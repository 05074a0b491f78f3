"""Batches of clips: sampling of frames, colour augmentation, and the true geometry in VGGT's gauge."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.data.records import ClipSource
from gen3r.data.skies import replace_skies
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
    recoloured: float = 0.0,
) -> Batch:
    """`size` clips of `frames` frames: a run of consecutive frames, or sorted random ones where `any_order`.

    frames uint8 [B, F, 3, H, W], depth [B, F, H, W], T_world_camera [B, F, 4, 4], K_px [B, F, 3, 3], captions.
    Shares of the clips are played in reverse (`backwards`), seen in a mirror, left for right (`mirrored`), and get
    another sky, where they have one and nothing else lacks depth (`recoloured`); half of these also lose what is far.
    """
    numbers, total = rng.integers(len(clips), size=size), clips.shape[0]
    chosen = []
    for _ in numbers:
        start = int(rng.integers(total - frames + 1))
        index = np.sort(rng.choice(total, frames, replace=False)) if any_order else start + np.arange(frames)
        chosen.append(torch.from_numpy(index[::-1].copy() if rng.random() < backwards else index))
    batch = clips.take(numbers.tolist(), torch.stack(chosen))
    batch["frames"] = batch["frames"].permute(0, 1, 4, 2, 3)
    batch["jitter"] = torch.from_numpy(rng.uniform(-1, 1, (size, 7))).float()
    batch = mirror(batch, torch.from_numpy(rng.random(size) < mirrored))
    if recoloured and clips.zero_is_sky:
        batch["frames"], batch["depth"] = replace_skies(
            rng, batch["frames"], batch["depth"], batch["T_world_camera"], batch["K_px"], recoloured
        )
    return batch


def mirror(batch: Batch, chosen: Tensor) -> Batch:
    """The batch with the `chosen` clips, bool [B], left for right: pictures, depth, and the cameras' x axes."""
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
    """Where every frame shows what the middle of every other frame's patches shows.

    depth: [B, F, H, W], 0 where unknown. T_world_camera: [B, F, 4, 4]. points: [B, F, H, W, 3] in the world.

    Returns:
        Bilinear weights [B, F, h * w, F, h * w] of the patches of a frame (last two axes) for a patch of another
        (second and third), and bool [B, F, h * w, F]: the surface is in that frame and not hidden there.
    """
    frames, height, width = depth.shape[1:]
    h, w = height // patch, width // patch
    half = slice(patch // 2, None, patch)
    middle, known = points[:, :, half, half].flatten(1, 3), depth[:, :, half, half].flatten(1) > 0
    pixel, z = project(middle[:, None], T_world_camera, K_px)  # [B, F, F * h * w], frames that look before frames seen
    pixel = torch.where(z[..., None] > 1e-3, pixel, torch.full_like(pixel, -1.0))
    size = pixel.new_tensor([width, height])
    grid = (2 * pixel / size - 1).flatten(0, 1)[:, :, None]
    seen = F.grid_sample(depth.flatten(0, 1)[:, None], grid, align_corners=False).view_as(z)
    agrees = (seen / z.clamp_min(1e-3) - 1).abs() < tolerance
    visible = known[:, None] & ((pixel > 0) & (pixel < size)).all(-1) & agrees
    # position in units of patches, from the middle of the first; a patch weighs 1 - distance along either axis
    position = pixel / patch - 0.5
    position = torch.minimum(position.clamp_min(0), position.new_tensor([w - 1, h - 1]))
    columns = (1 - (position[..., :1] - torch.arange(w, device=depth.device)).abs()).clamp_min(0)
    rows = (1 - (position[..., 1:] - torch.arange(h, device=depth.device)).abs()).clamp_min(0)
    weights = (rows[..., :, None] * columns[..., None, :]).flatten(-2)
    weights, visible = (x.unflatten(2, (frames, h * w)) for x in (weights, visible))
    return weights.permute(0, 2, 3, 1, 4), visible.permute(0, 2, 3, 1)


def augment_colours(frames: Tensor, jitter: Tensor, strength: float = 0.2) -> Tensor:
    """Frames uint8 [B, F, 3, H, W] -> [0, 1], with one drawn exposure, contrast and colour cast a clip.

    jitter: [B, 7] uniform in [-1, 1]: gains and offsets of three channels, and gamma.
    """
    x = frames.float() / 255
    gain = 1 + strength * jitter[:, None, :3, None, None]
    offset = 0.4 * strength * jitter[:, None, 3:6, None, None]
    gamma = torch.exp(strength * jitter[:, None, 6:, None, None])
    return ((x.clamp_min(1e-3) ** gamma) * gain + offset).clamp(0, 1)


def draw_faults(rng: np.random.Generator, size: int, frames: int) -> Batch:
    """How unsharp every frame of a batch is, `blur` [B, F], and how noisy every clip, `grain` [B]; half are neither.

    Generated frames are the less sharp the farther they are from a given one, and a moving camera's now and then.
    """
    blur = rng.random((size, frames)) * rng.random((size, 1)) * (rng.random((size, 1)) < 0.5)
    grain = 0.05 * rng.random(size) ** 2 * (rng.random(size) < 0.5)
    return {"blur": torch.from_numpy(blur).float(), "grain": torch.from_numpy(grain).float()}


def degrade(images: Tensor, blur: Tensor, grain: Tensor) -> Tensor:
    """Images [B, F, 3, H, W] in [0, 1] that go `blur` [B, F] of the way to a mean over 7 x 7 pixels, with normal noise
    of the spread `grain` [B]."""
    soft = F.avg_pool2d(images.flatten(0, 1), 7, stride=1, padding=3, count_include_pad=False).view_as(images)
    images = images + blur[..., None, None, None] * (soft - images)
    return (images + grain[:, None, None, None, None] * torch.randn_like(images)).clamp(0, 1)
