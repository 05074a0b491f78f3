"""Sky replacement, for clips in which depth 0 means sky: any colour, haze and clouds, down to the horizon."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.rays import pluecker_rays
from gen3r.data.records import Clip
from gen3r.geometry.points import unproject


def replace_skies(
    rng: np.random.Generator, frames: Tensor, depth: Tensor, T_world_camera: Tensor, K_px: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Clips, of which a share gets another sky, where it has one; half of these also lose distant geometry.

    frames: uint8 [B, F, 3, H, W]. depth: [B, F, H, W], 0 in the sky. T_world_camera: [B, F, 4, 4]. K_px: [B, F, 3, 3].
    Returns new frames and depth.
    """
    size = len(frames)
    changed = rng.random(size) < share
    opened = changed & (rng.random(size) < 0.5)
    amount, reach = rng.random(size) * changed, rng.uniform(0.5, 1, size)
    amount[opened], reach[~opened] = 1, 1
    depth = open_horizon(depth, T_world_camera, K_px, torch.from_numpy(reach))
    rays = pluecker_rays(T_world_camera, K_px, *depth.shape[-2:])
    skies = draw_skies(rng, rays[:, 3:].transpose(1, 2))
    return blend_sky(frames, depth, skies, torch.from_numpy(amount)), depth


def replace_sky(clip: Clip, share: float, seed: int) -> Clip:
    """The clip after `replace_skies`, drawn from a seed."""
    views, depth = replace_skies(
        np.random.default_rng([seed, 2]),
        clip.frames.permute(0, 3, 1, 2)[None],
        clip.depth[None],
        clip.cameras.T_world_camera[None],
        clip.cameras.K_px[None],
        share,
    )
    return replace(clip, frames=views[0].permute(0, 2, 3, 1).contiguous(), depth=depth[0])


def open_horizon(depth: Tensor, T_world_camera: Tensor, K_px: Tensor, reach: Tensor) -> Tensor:
    """Depth [B, F, H, W] that is 0, sky, beyond a distance from the first camera; clips without sky do not change.

    reach: [B], the share of the first frame's pixels with depth that keep it; 1 keeps all. The small world's plazas are
    enclosed by buildings, so that models took a sky down to the horizon for a wall.
    """
    points = unproject(depth, T_world_camera, K_px)
    distance = (points - T_world_camera[:, :1, None, None, :3, 3]).norm(dim=-1)
    outdoors = (depth == 0).flatten(1).any(1)
    limit = torch.full((len(depth),), torch.inf, device=depth.device)
    for i in (outdoors.cpu() & (reach < 1)).nonzero().flatten().tolist():
        seen_first = distance[i, 0][depth[i, 0] > 0]
        if len(seen_first):
            limit[i] = seen_first.quantile(float(reach[i]))
    return torch.where(distance > limit[:, None, None, None], torch.zeros_like(depth), depth)


def sky_colours(rng: np.random.Generator, count: int) -> Tensor:
    """Colours of skies on photographs, [count, 3] in [0, 1]: mostly bright, never saturated."""
    brightness, saturation = rng.uniform(0, 1, (count, 1)) ** (1 / 3), rng.uniform(0, 0.6, (count, 1))
    return torch.from_numpy(brightness * (1 - saturation * rng.random((count, 3)))).float()


def draw_skies(rng: np.random.Generator, direction: Tensor) -> Tensor:
    """One sky per clip, [B, F, 3, H, W] in [0, 1], as seen along `direction` [B, F, 3, H, W]; frames agree.

    Haze and clouds are smooth waves between two colours.
    """
    count, one_a_clip = len(direction), (len(direction), 1, 1, 1, 1)
    first, other = (sky_colours(rng, count).to(direction)[:, None, :, None, None] for _ in range(2))
    difference = rng.random(one_a_clip)
    waves = 2 ** rng.uniform(0, 3, (count, 1, 1)) * rng.standard_normal((count, 4, 3))
    phase, contrast = rng.uniform(0, 2 * np.pi, (count, 1, 4, 1, 1)), rng.uniform(0.5, 4, one_a_clip)
    difference, waves, phase, contrast = (
        torch.from_numpy(x).to(direction) for x in (difference, waves, phase, contrast)
    )
    height = (torch.einsum("bfchw,bnc->bfnhw", direction, waves) + phase).sin().sum(2, keepdim=True)
    return first + (contrast * height).sigmoid() * (difference * (other - first))


def blend_sky(frames: Tensor, depth: Tensor, skies: Tensor, amount: Tensor) -> Tensor:
    """Frames uint8 [B, F, 3, H, W] with the sky blended towards `skies` [B, F, 3, H, W] in [0, 1] by `amount` [B].

    depth: [B, F, H, W], 0 in the sky. The edge of the sky is soft.
    """
    sky = F.avg_pool2d((depth == 0).float(), 3, stride=1, padding=1, count_include_pad=False)[:, :, None]
    move = amount.to(sky)[:, None, None, None, None] * sky
    return (frames + move * (255 * skies.to(sky) - frames)).round().byte()
