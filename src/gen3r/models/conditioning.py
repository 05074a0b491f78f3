"""What the transformer is told: given frames and cameras. Sampling and training share this code (Gen3R, sec. 3.3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.rays import fold_frames, pluecker_rays
from gen3r.geometry.plane_sweep import sharpened_depth
from gen3r.geometry.rendering import render_views
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.precision import exact_products
from gen3r.models.tokens import packed_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE


def control_latents(
    vae: VideoVAE, frames: Tensor, given: Tensor, geometry: Tensor | None = None, known: Tensor | None = None
) -> Tensor:
    """16 condition latents and 4 mask channels, [B, 20, f, h, 2w]; the mask says which frames are given.

    frames: [B, F, 3, H, W] in [0, 1], of which `given`, bool [B, F], count; the others are black, unless there is
        `known`, bool [B, F, H, W]: pixels that renders of the given frames show. The mask of the geometry half is the
        share of these, and zero without.
    geometry: [B, 16, f, h, w]; without it the geometry half is zero.
    """
    shown = given[:, :, None, None, None]
    video = frames if known is not None else torch.where(shown, frames, torch.zeros_like(frames))
    latents = vae.encode_video((2 * video - 1).transpose(1, 2)).mean
    folded = fold_frames(given[:, None, :, None, None].to(latents.dtype))
    mask = folded.expand(-1, -1, -1, *latents.shape[-2:])
    appearance = torch.cat([latents, mask], dim=1)
    beside = torch.zeros_like(appearance)
    if geometry is not None:
        beside[:, : geometry.shape[1]] = geometry
    if known is not None:
        share = F.adaptive_avg_pool2d(known.to(latents.dtype), (latents.shape[-2], latents.shape[-1]))
        beside[:, latents.shape[1] :] = fold_frames(share[:, None])
    return torch.cat([appearance, beside], dim=-1)


def given_geometry(vggt: VGGT, adapter: GeometryAdapter, given: Tensor, places: list[int], frames: int) -> Tensor:
    """Geometry latents [B, 16, f, h, w] of given pictures [B, n, 3, H, W] as VGGT sees them by themselves.

    Their tokens stand at their `places` among `frames` frames, and the others' are zero.
    """
    seen = packed_tokens(vggt, given.to(vggt.dtype)).to(adapter.dtype)
    tokens = seen.new_zeros(*seen.shape[:2], frames, *seen.shape[3:])
    tokens[:, :, places] = seen
    return adapter.encode(tokens).mean


def rendered_control(
    vae: VideoVAE,
    vggt: VGGT,
    adapter: GeometryAdapter,
    given: Sequence[Tensor],
    depth: Sequence[Tensor],
    places: Sequence[list[int]],
    paths: Sequence[Cameras],
) -> Tensor:
    """Control latents [B, 20, f, h, 2w] of every sample's given pictures and of what they show from its other cameras.

    given: [n, 3, H, W] a sample. depth: [n, H, W] of these pictures, in the path's unit, as VGGT sees it by themselves;
    of two pictures, the path may correct it. places: where they stand in the path. The geometry half is what
    VGGT sees in the whole.
    """
    shown = [_shown(*sample) for sample in zip(given, depth, places, paths, strict=True)]
    views, known, marked = (torch.stack(x) for x in zip(*shown, strict=True))
    geometry = given_geometry(vggt, adapter, views, list(range(views.shape[1])), views.shape[1])
    return control_latents(vae, views.to(vae.dtype), marked, geometry, known)


def _shown(given: Tensor, depth: Tensor, places: list[int], path: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """A sample's frames [F, 3, H, W], given or rendered, where they are known, [F, H, W], and which are given, [F]."""
    device = given.device if given.is_cuda else torch.device("cpu")
    pictures, depth = given.float().to(device), depth.to(device)
    with exact_products(device):
        if len(places) == 2:
            cameras = (x[places].to(device) for x in (path.T_world_camera, path.K_px))
            depth = sharpened_depth(pictures, depth, *cameras)
        rendered = render_views(pictures, depth, places, path)
    views, known = (x.to(given.device) for x in rendered)
    views[places], known[places] = given.to(views.dtype), True
    marked = torch.zeros(len(views), dtype=torch.bool, device=given.device)
    marked[places] = True
    return views, known, marked


def given_latents(control: Tensor) -> tuple[Tensor, Tensor]:
    """The latents in a control [B, 20, f, h, 2w], [B, 16, f, h, 2w], and where they are those to be sampled.

    The second is bool [B, 1, f, h, 2w]: all frames that a latent stands for are given, such as the first one's.
    """
    latents, mask = control.float().split([control.shape[1] - 4, 4], dim=1)
    known = (mask == 1).all(1, keepdim=True)
    known[..., known.shape[-1] // 2 :] = False  # the mask there is of what is rendered
    return latents, known


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
