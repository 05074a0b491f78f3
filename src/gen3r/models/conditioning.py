"""What the transformer is told: given frames and cameras. Sampling and training share this code (Gen3R, sec. 3.3)."""

import torch
from torch import Tensor

from gen3r.cameras.rays import fold_frames, pluecker_rays
from gen3r.models.video_vae import VideoVAE


def control_latents(vae: VideoVAE, frames: Tensor, given: Tensor) -> Tensor:
    """16 condition latents and 4 mask channels, [B, 20, f, h, 2w]; the geometry half is zero.

    frames: [B, F, 3, H, W] in [0, 1], of which `given`, bool [B, F], count; the others are black.
    """
    shown = given[:, :, None, None, None]
    video = 2 * torch.where(shown, frames, torch.zeros_like(frames)) - 1
    latents = vae.encode_video(video.transpose(1, 2)).mean
    folded = fold_frames(given[:, None, :, None, None].to(latents.dtype))
    mask = folded.expand(-1, -1, -1, *latents.shape[-2:])
    appearance = torch.cat([latents, mask], dim=1)
    return torch.cat([appearance, torch.zeros_like(appearance)], dim=-1)


def given_latents(control: Tensor) -> tuple[Tensor, Tensor]:
    """The latents in a control [B, 20, f, h, 2w], [B, 16, f, h, 2w], and where they are those to be sampled.

    The second is bool [B, 1, f, h, 2w]: all frames that a latent stands for are given, such as the first one's.
    """
    latents, mask = control.float().split([control.shape[1] - 4, 4], dim=1)
    return latents, (mask == 1).all(1, keepdim=True)


def camera_condition(T_world_camera: Tensor, K_px: Tensor, height: int, width: int) -> Tensor:
    """Folded Pluecker rays [B, 24, f, H, 2W], the same for both halves.

    T_world_camera: [B, F, 4, 4], taken relative to each clip's first camera; K_px: [B, F, 3, 3].
    """
    relative = torch.linalg.inv(T_world_camera[:, :1]) @ T_world_camera
    rays = fold_frames(pluecker_rays(relative, K_px, height, width))
    return torch.cat([rays, rays], dim=-1)


def free_cameras(batch: int, frames: int, height: int, width: int, like: Tensor) -> Tensor:
    """The camera condition that leaves the cameras to the model: zeros, [B, 24, f, H, 2W]."""
    return like.new_zeros(batch, 24, 1 + (frames - 1) // 4, height, 2 * width)
