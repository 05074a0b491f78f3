"""Semi-global matching of two frames with known cameras (Hirschmueller 2008).

It finds what stands far before its background, which sweeps around a predicted depth do not reach.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.multi_view_stereo import agreement, continued, matching_costs, texture_trust
from gen3r.geometry.points import project, unproject

NEAREST, FARTHEST = 3.0, 2.0  # how much nearer and farther than the given depth planes stand
NEAR_SHARE = 0.02  # of the pixels that are nearer than what counts as the nearest
PLANES = 96  # at most, spread evenly over inverse depth
WINDOW = 5  # pixels
STEP, JUMP = 0.1, 0.6  # costs of neighbours that are one plane apart, and more
CONTRAST = 0.05  # difference of grey values at which the cost of a jump is halved
PRIOR_WEIGHT, PRIOR_WIDTH = 0.03, 0.1  # cost of another depth than the given one; logarithm of a ratio that has it
CONTINUED = 19  # pixels around what agrees to which its change is continued
HIDDEN, EDGE = 0.12, 0.1  # widest hidden part, of the side; least logarithm of the ratio of depths on its two sides
BETTER = (1.0, 1.03)  # times the fit of the given depth, in coarse and in fine frames: what the fit has to exceed
LEAST = 0.35  # fit of frames that show the same things


def match_pair(coarse: Tensor, fine: Tensor, depth: Tensor, cameras: Cameras) -> Tensor:
    """The depth of two frames [2, H, W], sought in the whole range of depth; the given one where that fits as well.

    coarse: grey values [2, H, W] in [0, 1]. fine: the same in twice the pixels on each side. depth: the z-depth at
    hand, in the unit of the cameras. cameras: accurate ones, at the size of `depth`.
    The cost of a plane is that of `sharpen_frames`. Costs are summed along eight directions, in which a jump costs less
    across an edge of the image. What one frame hides of the other takes the depth of the far side.
    """
    found = depth
    for grey, better in zip((coarse, fine), BETTER, strict=True):  # coarse frames soon tell where nothing is gained
        size = grey.shape[-2:]
        seen, given = cameras.resize(*size), F.interpolate(depth[None], size, mode="bilinear", align_corners=False)[0]
        found = torch.stack([_matched(grey, given[i], seen, i) for i in (0, 1)])
        if _fit(grey, found, seen) <= max(LEAST, better * _fit(grey, given, seen)):
            return depth
    agrees = agreement(found, seen)
    around = given * continued((found / given).log(), agrees, CONTINUED).exp()
    found = torch.stack([_behind_edges(found[i], agrees[i], around[i], seen, i) for i in (0, 1)])
    return F.pixel_unshuffle(found[:, None], 2).median(1).values  # of four pixels a depth that one of them has


def _fit(grey: Tensor, depth: Tensor, cameras: Cameras) -> float:
    """How much of two frames has one depth in both, by texture, and how alike it is: 0 to 1."""
    trust = texture_trust(grey, WINDOW)
    alike = []
    for one, other in ((0, 1), (1, 0)):
        points = unproject(depth[one][None], cameras.T_world_camera[one], cameras.K_px[one])
        cost = matching_costs(grey[one][None], grey[other], points, cameras[other : other + 1], WINDOW)
        alike.append((1 - 2 * cost[0]).clamp_min(0))
    return float((agreement(depth, cameras) * torch.stack(alike) * trust).sum() / trust.sum().clamp_min(1e-6))


def _matched(grey: Tensor, depth: Tensor, cameras: Cameras, frame: int) -> Tensor:
    """The depth [H, W] of a frame with the least sum of costs."""
    inverse = _planes(depth, cameras, frame)
    own, other = grey[frame][None], 1 - frame
    planes = (1 / inverse)[:, None, None].expand(-1, *depth.shape)
    points = unproject(planes, cameras.T_world_camera[frame], cameras.K_px[frame])
    cost = matching_costs(own, grey[other], points, cameras[other : other + 1], WINDOW) * texture_trust(own, WINDOW)
    cost = cost + PRIOR_WEIGHT * ((planes / depth).log() / PRIOR_WIDTH).square().clamp(max=1)
    total = _summed(cost.movedim(0, -1).contiguous(), _jumps(own[0]))
    best = total.argmin(-1, keepdim=True)
    middle = best.clamp(1, len(inverse) - 2)
    before, here, after = (total.gather(-1, middle + step) for step in (-1, 0, 1))
    offset = ((before - after) / (2 * (before - 2 * here + after)).clamp_min(1e-6)).clamp(-0.5, 0.5)
    chosen = inverse[best] + torch.where(middle == best, offset, 0) * (inverse[1] - inverse[0])
    return 1 / chosen[..., 0]


def _planes(depth: Tensor, cameras: Cameras, frame: int) -> Tensor:
    """The inverse depths of planes [D] that are about a pixel apart in the other frame."""
    nearest = depth.flatten().kthvalue(1 + int(NEAR_SHARE * (depth.numel() - 1))).values
    ends = float(nearest / NEAREST), float(depth.max() * FARTHEST)
    T, K_px = (x[1 - frame] for x in (cameras.T_world_camera, cameras.K_px))
    pixels, inside = [], []
    for z in ends:
        plane = unproject(torch.full_like(depth, z), cameras.T_world_camera[frame], cameras.K_px[frame])
        pixel, there = project(plane[::8, ::8].reshape(-1, 3), T, K_px)
        pixels.append(pixel)
        inside.append(there > 0)
    moved = (pixels[0] - pixels[1]).norm(dim=-1)[inside[0] & inside[1]]
    apart = float(moved.quantile(0.9)) if len(moved) else 0.0
    return torch.linspace(1 / ends[1], 1 / ends[0], min(max(round(apart), 8), PLANES), device=depth.device)


def _jumps(image: Tensor) -> Tensor:
    """The cost of a jump at each pixel of an image [H, W]."""
    across, down = F.pad(image.diff(dim=1), (1, 0)), F.pad(image.diff(dim=0), (0, 0, 1, 0))
    return (JUMP / (1 + torch.maximum(across.abs(), down.abs()) / CONTRAST)).clamp_min(STEP)


def _summed(cost: Tensor, jumps: Tensor) -> Tensor:
    """Sums of costs [H, W, D] along eight directions. jumps: [H, W]."""
    total = torch.zeros_like(cost)
    _add_sums(total, cost, jumps, slanting=True)
    _add_sums(total.transpose(0, 1), cost.transpose(0, 1).contiguous(), jumps.T.contiguous(), slanting=False)
    return total


def _add_sums(total: Tensor, cost: Tensor, jumps: Tensor, slanting: bool) -> None:
    """Adds to `total` [H, W, D] what comes down and up its columns; and along both diagonals, if `slanting`."""
    shifts = (-1, 0, 1) if slanting else (0,)
    for rows in (range(len(cost)), range(len(cost) - 1, -1, -1)):
        sums = cost.new_zeros(len(shifts), *cost.shape[1:])
        for row in rows:
            sums = torch.stack([_shifted(x, shift) for x, shift in zip(sums, shifts, strict=True)])
            least = sums.amin(-1, keepdim=True)
            nearer, farther = (
                F.pad(sums[..., 1:], (0, 1), value=torch.inf),
                F.pad(sums[..., :-1], (1, 0), value=torch.inf),
            )
            kept = torch.minimum(sums, torch.minimum(nearer, farther) + STEP)
            sums = cost[row] + torch.minimum(kept, least + jumps[row][:, None]) - least
            total[row] += sums.sum(0)


def _shifted(sums: Tensor, shift: int) -> Tensor:
    """Sums [W, D] moved by -1, 0 or 1 pixels, with zeros where a path begins."""
    return F.pad(sums, (0, 0, shift, -shift)) if shift else sums


def _behind_edges(depth: Tensor, agrees: Tensor, around: Tensor, cameras: Cameras, frame: int) -> Tensor:
    """The depth [H, W] where it agrees; elsewhere the far side's, where the other frame hides a part, or `around`."""
    T = torch.linalg.inv(cameras.T_world_camera[frame]) @ cameras.T_world_camera[1 - frame]
    if abs(float(T[1, 3])) > abs(float(T[0, 3])):  # hidden parts lie along the movement
        return _behind_edges_of_rows(depth.T, agrees.T, around.T).T
    return _behind_edges_of_rows(depth, agrees, around)


def _behind_edges_of_rows(depth: Tensor, agrees: Tensor, around: Tensor) -> Tensor:
    width = depth.shape[1]
    column = torch.arange(width, device=depth.device).expand_as(depth)
    left = torch.where(agrees, column, -width).cummax(1).values
    right = torch.where(agrees, column, 2 * width).flip(1).cummin(1).values.flip(1)
    sides = [depth.gather(1, side.clamp(0, width - 1)) for side in (left, right)]
    hidden = (right - left < HIDDEN * width) & ((sides[0] / sides[1]).log().abs() > EDGE)
    return torch.where(agrees, depth, torch.where(hidden, torch.maximum(*sides), around))
