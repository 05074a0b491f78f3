"""Multi-view stereo: refines the depth of frames with known cameras by plane sweeps."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.geometry.points import project, unproject, window_mean

SOURCES = 4  # other frames that a frame is compared with
BEST_BASELINE = 0.15  # of the median depth: shorter ones say less, longer ones see other surfaces
SWEEPS = ((0.4, 25, 9), (0.12, 17, 5))  # largest logarithm of a factor, factors, window in pixels
FINER_SWEEP = (0.12, 17, 9)  # over finer frames
PRIOR_WEIGHT = 0.045  # of the squared logarithm of a factor, in the unit of the cost (0 a match, 1/2 none)
CHANGE_WEIGHT = 0.005  # of its absolute value, over the largest
AGREES = 0.05  # largest logarithm of a ratio at which the depths of two frames are one surface's
CONTINUED = 9  # pixels around what agrees to which its change is continued
NO_TEXTURE = 2e-4  # variance of the grey values of a window in which half of the cost counts


def sharpen_frames(
    images: Tensor,
    depth: Tensor,
    cameras: Cameras,
    frames: Iterable[int] | None = None,
    finer: Tensor | None = None,
) -> Tensor:
    """The depth of frames [F, H, W] at which their windows match those of other frames best.

    images: [F, 3, H, W] in [0, 1]. depth: the initial z-depth, in the unit of the cameras. cameras: F, accurate ones,
    at the size of the images. frames: gives the numbers of all frames, in order; for a progress bar.
    finer: grey values [F, H', W'] of the frames in more pixels, for a last sweep.

    Each frame tries factors of its depth, in sweeps from coarse to fine. The cost of a factor is 1 minus the normalised
    cross-correlation with the better half of the sources, which leaves out those that something hides. A prior keeps
    windows without texture as they are (as COLMAP's and MVSNet's costs, on the depth that a network predicts).
    """
    grey, sharp = images.mean(1), []
    finer_cameras = cameras if finer is None else cameras.resize(*finer.shape[-2:])
    for i in range(len(images)) if frames is None else frames:
        own = _sharpened(grey, depth[i], cameras, i)
        sharp.append(own if finer is None else _swept_finer(finer, own, finer_cameras, i))
    return torch.stack(sharp)


def sharpen_pair(images: Tensor, depth: Tensor, cameras: Cameras, finer: Tensor) -> Tensor:
    """The depth of two frames [2, H, W] at which their windows match, where that of each agrees with the other's.

    images, depth, cameras, finer: as for `sharpen_frames`. A single pair has many wrong matches, above all of windows
    that the other frame does not show. Where the depths of the two do not say one surface, a pixel takes the change of
    those around it that agree, less where they are few (left-right check, as in semi-global matching).
    """
    found = sharpen_frames(images, depth, cameras, finer=finer)
    return depth * continued((found / depth).log(), agreement(found, cameras), CONTINUED).exp()


def agreement(depth: Tensor, cameras: Cameras) -> Tensor:
    """Where the depths of two frames [2, H, W] say one surface, bool [2, H, W]."""
    agrees = []
    for one, other in ((0, 1), (1, 0)):
        points = unproject(depth[one], cameras.T_world_camera[one], cameras.K_px[one])
        place, z, inside = placed(points[None], cameras[other : other + 1])
        seen = F.grid_sample(depth[other][None, None], place, align_corners=False)[0, 0].view_as(z[0])
        agrees.append(inside[0] & ((z[0] / seen.clamp_min(1e-6)).log().abs() < AGREES))
    return torch.stack(agrees)


def continued(change: Tensor, known: Tensor, window: int) -> Tensor:
    """A change [N, H, W] where it is known; elsewhere its mean over a window, less where little of that is known."""
    share, sums = (window_mean(x, window) for x in (known.to(change), known * change))
    return torch.where(known, change, sums / share.clamp_min(1e-3) * (2 * share).clamp(max=1))


def mismatch(images: Tensor, depth: Tensor, cameras: Cameras, numbers: Iterable[int]) -> float:
    """How badly some frames match the others by their cameras, at the depth that suits those best: 0 to 1.

    images, depth, cameras: as for `sharpen_frames`. numbers: of the frames. Wrong cameras have no depth at which what a
    frame shows is what the others show. Windows without texture do not count.
    """
    grey, window = images.mean(1), SWEEPS[-1][2]
    errors, weights = [], []
    for i in numbers:
        own = _sharpened(grey, depth[i], cameras, i)
        points = unproject(own[None], cameras.T_world_camera[i], cameras.K_px[i])
        costs = [
            matching_costs(grey[i][None], grey[j], points, cameras[j : j + 1], window)
            for j in _sources(own, cameras, i)
        ]
        weights.append(texture_trust(grey[i][None], window))
        errors.append(torch.stack(costs).mean(0) * weights[-1])
    return float(torch.stack(errors).sum() / torch.stack(weights).sum().clamp_min(1e-6))


def _sharpened(grey: Tensor, depth: Tensor, cameras: Cameras, frame: int) -> Tensor:
    """The depth of a frame [H, W] after all `SWEEPS`."""
    for sweep in SWEEPS:
        depth = _swept(grey, depth, cameras, frame, *sweep)
    return depth


def _swept(grey: Tensor, depth: Tensor, cameras: Cameras, frame: int, reach: float, count: int, window: int) -> Tensor:
    """The depth of a frame [H, W] times the factor with the least cost for each pixel, averaged over windows."""
    sources = _sources(depth, cameras, frame)
    own, logs = grey[frame][None], torch.linspace(-reach, reach, count, device=depth.device)
    trust = texture_trust(own, window)
    points = unproject(logs.exp()[:, None, None] * depth, cameras.T_world_camera[frame], cameras.K_px[frame])
    costs = torch.stack([matching_costs(own, grey[j], points, cameras[j : j + 1], window) for j in sources])
    cost = costs.sort(0).values[: (len(sources) + 1) // 2].mean(0) * trust
    size = logs.abs()[:, None, None]
    cost = cost + PRIOR_WEIGHT * size**2 + CHANGE_WEIGHT * size / logs[-1]
    best = cost.argmin(0)
    middle = best.clamp(1, len(logs) - 2)
    before, here, after = (cost.gather(0, (middle + step)[None])[0] for step in (-1, 0, 1))
    offset = ((before - after) / (2 * (before - 2 * here + after)).clamp_min(1e-6)).clamp(-0.5, 0.5)
    chosen = logs[best] + torch.where(middle == best, offset, 0) * (logs[1] - logs[0])
    sure = (1 - 2 * cost.gather(0, best[None])).clamp_min(0) ** 2 * trust + 1e-3
    return depth * (window_mean(chosen * sure, window) / window_mean(sure, window))[0].exp()


def _swept_finer(grey: Tensor, depth: Tensor, cameras: Cameras, frame: int) -> Tensor:
    """The depth of a frame [H, W] after `FINER_SWEEP` over frames and cameras of more pixels."""
    own = F.interpolate(depth[None, None], grey.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    change = (_swept(grey, own, cameras, frame, *FINER_SWEEP) / own).log()
    return depth * F.interpolate(change[None, None], depth.shape, mode="area")[0, 0].exp()


def texture_trust(image: Tensor, window: int) -> Tensor:
    """How much the windows of an image [1, H, W] say of its depth, by their texture: 0 to 1."""
    _, texture = _moments(image, window)
    return texture / (texture + NO_TEXTURE)


def matching_costs(own: Tensor, other: Tensor, points: Tensor, camera: Cameras, window: int) -> Tensor:
    """(1 - normalised cross-correlation) / 2 of windows [D, H, W]; 1/2 where the other frame does not see the points.

    own: [1, H, W]. other: [H, W]. points: [D, H, W, 3], of every factor.
    """
    place, _, inside = placed(points, camera)
    seen = F.grid_sample(other[None, None], place, padding_mode="border", align_corners=False).view(inside.shape)
    (mean, variance), (seen_mean, seen_variance) = _moments(own, window), _moments(seen, window)
    covariance = window_mean(own * seen, window) - mean * seen_mean
    correlation = covariance / ((variance + 1e-4) * (seen_variance + 1e-4)).sqrt()
    return torch.where(inside, (1 - correlation) / 2, 0.5)


def placed(points: Tensor, camera: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Where a camera sees points [D, H, W, 3]: places for `grid_sample` [1, D, HW, 2], depth, and whether it does."""
    pixel, z = project(points.flatten(1, 2), camera.T_world_camera, camera.K_px)
    place = 2 * pixel / pixel.new_tensor([camera.width, camera.height]) - 1
    inside = (place.abs() < 1).all(-1) & (z > 0)
    return place[None], z.view(points.shape[:-1]), inside.view(points.shape[:-1])


def _moments(image: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the windows of an image [N, H, W]."""
    mean = window_mean(image, window)
    return mean, window_mean(image * image, window) - mean**2


def _sources(depth: Tensor, cameras: Cameras, frame: int) -> list[int]:
    """The frames that share most of a frame's view, from about the best baseline."""
    size = depth.new_tensor([cameras.width, cameras.height])
    points = unproject(depth, cameras.T_world_camera[frame], cameras.K_px[frame])[::4, ::4].reshape(-1, 3)
    pixel, z = project(points, cameras.T_world_camera, cameras.K_px)
    shared = (((pixel > 0) & (pixel < size)).all(-1) & (z > 0)).float().mean(-1)
    baseline = (cameras.centres - cameras.centres[frame]).norm(dim=-1) / depth.median()
    score = shared * torch.exp(-0.5 * (baseline.clamp_min(1e-6) / BEST_BASELINE).log() ** 2)
    score[frame] = -math.inf
    return score.topk(min(SOURCES, len(score) - 1)).indices.tolist()
