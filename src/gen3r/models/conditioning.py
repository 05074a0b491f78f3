"""What the transformer is conditioned on: frames, text and cameras, and how it is trained to denoise.

Sampling and training share this code (Gen3R, sec. 3.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import relative_to_first
from gen3r.cameras.rays import fold_frames, pluecker_rays
from gen3r.geometry.depth_upsampling import upsample_depth
from gen3r.geometry.multi_view_stereo import sharpen_pair
from gen3r.geometry.plane_sweep import sharpened_depth
from gen3r.geometry.semi_global_matching import match_pair
from gen3r.geometry.splatting import warp_views
from gen3r.media.images import resize
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.precision import exact_products
from gen3r.models.tokens import packed_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE

MASK_CHANNELS = 4  # the frames that one latent stands for


@dataclass(frozen=True)
class Conditions:
    """The inputs of the transformer besides noisy latents and time, for B samples.

    prompt_embeds, negative_prompt_embeds: [B, L, D], the latter None without guidance. image_embeds: [B, N, D'].
    control: [B, 20, f, h, 2w]. rays: [B, 24, f, H, 2W].
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None
    image_embeds: Tensor
    control: Tensor
    rays: Tensor


def add_noise(sample: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_t = (1 - sigma) x + sigma n of samples [B, ...], at the noise levels sigma [B] or [] (rectified flow)."""
    s = sigma.reshape(-1, *[1] * (sample.ndim - 1))
    return (1 - s) * sample + s * noise


def velocity_target(sample: Tensor, noise: Tensor) -> Tensor:
    """The velocity d x_t / d sigma = n - x that the transformer learns to predict."""
    return noise - sample


def shift_timestep(time: Tensor, shift: float) -> Tensor:
    """Noise levels of uniform times in [0, 1]: a shift above 1 moves them towards noise (Esser et al. 2024, eq. 23)."""
    return shift * time / (1 + (shift - 1) * time)


def control_layout(
    latents: Tensor, mask: Tensor, geometry: Tensor | None = None, visible: Tensor | None = None
) -> Tensor:
    """The control [B, 20, f, h, 2w]: 16 condition latents and 4 mask channels, appearance left, geometry right.

    latents: [B, 16, f, h, w]. mask: [B, 4, f, h, w], 1 for conditioning frames. geometry: [B, 16, f, h, w] or zeros.
    visible: [B, 4, f, h, w], the share of pixels that warped views fill; the mask of the geometry half, or zeros.
    """
    geometry = torch.zeros_like(latents) if geometry is None else geometry.to(latents.dtype)
    visible = torch.zeros_like(mask) if visible is None else visible.to(mask.dtype)
    halves = [torch.cat(half, dim=1) for half in ((latents, mask), (geometry, visible))]
    return torch.cat(halves, dim=-1)


def control_latents(
    vae: VideoVAE,
    frames: Tensor,
    conditioning_mask: Tensor,
    geometry: Tensor | None = None,
    visible: Tensor | None = None,
) -> Tensor:
    """The control [B, 20, f, h, 2w] of conditioning frames.

    frames: [B, F, 3, H, W] in [0, 1]. conditioning_mask: bool [B, F]; the other frames become black, unless `visible`
        says that they are warped views. geometry: [B, 16, f, h, w]. visible: bool [B, F, H, W], the pixels that warped
        views fill.
    """
    if visible is None:
        kept = conditioning_mask[:, :, None, None, None]
        frames = torch.where(kept, frames, torch.zeros_like(frames))
    latents = vae.encode_video((2 * frames - 1).transpose(1, 2)).mean
    folded = fold_frames(conditioning_mask[:, None, :, None, None].to(latents.dtype))
    mask = folded.expand(-1, -1, -1, *latents.shape[-2:])
    if visible is not None:
        share = F.adaptive_avg_pool2d(visible.to(latents.dtype), (latents.shape[-2], latents.shape[-1]))
        visible = fold_frames(share[:, None])
    return control_layout(latents, mask, geometry, visible)


def geometry_latents(vggt: VGGT, adapter: GeometryAdapter, frames: Tensor) -> Tensor:
    """Geometry latents [B, 16, f, h, w] of frames [B, F, 3, H, W] in [0, 1], by VGGT and the adapter."""
    return adapter.encode(packed_tokens(vggt, frames.to(vggt.dtype)).to(adapter.dtype).contiguous()).mean


def warped_control(
    vae: VideoVAE,
    vggt: VGGT,
    adapter: GeometryAdapter,
    images: Sequence[Tensor],
    depth: Sequence[Tensor],
    frame_indices: Sequence[list[int]],
    paths: Sequence[Cameras],
) -> Tensor:
    """The control [B, 20, f, h, 2w] of conditioning frames, and of their warped views in the other frames.

    Each sequence has one entry per sample. images: [n, 3, H, W]. depth: [n, H, W] in the unit of the path, as
    `steering_depth` gives it. frame_indices: where the images stand in the clip.
    The geometry half holds the geometry latents of all frames, warped ones included.
    """
    samples = [_warp(*sample) for sample in zip(images, depth, frame_indices, paths, strict=True)]
    frames, visible, mask = (torch.stack(x) for x in zip(*samples, strict=True))
    geometry = geometry_latents(vggt, adapter, frames)
    return control_latents(vae, frames.to(vae.dtype), mask, geometry, visible)


def steering_depth(photos: Tensor, depth: Tensor, frame_indices: list[int], path: Cameras) -> Tensor:
    """The depth [n, h, w] that photos [n, 3, H, W] are warped and drawn by along a path: the `depth` predicted for them
    at any size; that of two is refined by plane sweeps between their cameras.

    path: cameras at the photos' size, in the unit of the depth.
    """
    if len(frame_indices) != 2:
        return depth
    device = photos.device if photos.is_cuda else torch.device("cpu")
    photos, depth, (height, width) = photos.float().to(device), depth.float().to(device), depth.shape[-2:]
    path = path.resize(height, width).to(device)
    pair = Cameras(path.T_world_camera[frame_indices], path.K_px[frame_indices], height, width)
    images, finer = (resize(photos, n * height, n * width) for n in (1, 2))
    with exact_products(device):
        depth = sharpened_depth(images, depth, pair.T_world_camera, pair.K_px)
        depth = sharpen_pair(images, depth, pair, finer.mean(1))
        return match_pair(images.mean(1), finer.mean(1), depth, pair)


def photo_depth(photos: Tensor, depth: Tensor, frame_indices: list[int], path: Cameras) -> Tensor:
    """The depth of photos [n, 3, H, W] at their size, [n, H, W], of depth predicted for them at any size, [n, h, w].

    path: as in `steering_depth`.
    """
    depth = steering_depth(photos, depth, frame_indices, path).to(photos.device)
    away = [(path.centres - path.centres[i]).norm(dim=-1).max() for i in frame_indices]
    parallax = [float(path.K_px[i, 0, 0] * distance) for i, distance in zip(frame_indices, away, strict=True)]
    samples = zip(depth.float(), photos.float(), parallax, strict=True)
    return torch.stack([upsample_depth(*sample) for sample in samples])


def _warp(images: Tensor, depth: Tensor, frame_indices: list[int], path: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """A sample's frames [F, 3, H, W], the pixels that have a colour [F, H, W], and the conditioning mask [F]."""
    device = images.device if images.is_cuda else torch.device("cpu")
    sources, depth = images.float().to(device), depth.to(device)
    with exact_products(device):
        warped = warp_views(sources, depth, frame_indices, path)
    frames, visible = (x.to(images.device) for x in warped)
    frames[frame_indices], visible[frame_indices] = images.to(frames.dtype), True
    mask = torch.zeros(len(frames), dtype=torch.bool, device=images.device)
    mask[frame_indices] = True
    return frames, visible, mask


def known_latents(control: Tensor) -> tuple[Tensor, Tensor]:
    """The latents [B, 16, f, h, 2w] of a control, and where they are known: bool [B, 1, f, h, 2w].

    A latent is known where all frames that it stands for are conditioning frames, as for the first one.
    """
    latents, mask = control.float().split([control.shape[1] - MASK_CHANNELS, MASK_CHANNELS], dim=1)
    known = (mask == 1).all(1, keepdim=True)
    known[..., known.shape[-1] // 2 :] = False  # there the mask is about warped views
    return latents, known


def camera_condition(T_world_camera: Tensor, K_px: Tensor, height: int, width: int) -> Tensor:
    """Folded Pluecker rays [B, 24, f, H, 2W], the same in both halves.

    T_world_camera: [B, F, 4, 4], taken relative to the first camera of each clip. K_px: [B, F, 3, 3].
    """
    rays = fold_frames(pluecker_rays(relative_to_first(T_world_camera), K_px, height, width))
    return torch.cat([rays, rays], dim=-1)


def free_cameras(batch: int, frames: int, height: int, width: int, device: torch.device) -> Tensor:
    """The camera condition that leaves the cameras to the model: zeros, [B, 24, f, H, 2W]."""
    return torch.zeros(batch, 24, 1 + (frames - 1) // 4, height, 2 * width, device=device)
