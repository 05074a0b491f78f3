"""Points that two images share, found from the images alone: block matching from coarse to fine."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.cameras.rays import pixel_grid
from gen3r.geometry.points import window_mean

RADIUS = 2  # pixels searched around the coarser level's answer, on every level
PATCH = 9
COARSEST = 12  # pixels of the short side
GUIDED = 2  # levels below the first where there is a guess
ALIKE, CORNER, BACK = 0.85, 4.0, 0.5  # least correlation, least contrast in every direction, most pixels off on return


@dataclass(frozen=True)
class Matches:
    """Points [N, 2] (x, y) of one image and where they are in another; pixel centres at +0.5."""

    here: Tensor
    there: Tensor


def match_pictures(one: Tensor, other: Tensor, guess: tuple[Tensor, Tensor] | None = None) -> Matches:
    """The well-defined matches of two images uint8 [H, W, 3]: textured in every direction, alike, and found back.

    guess: shifts [2, H, W] from one to the other and back, NaN where unknown, to search around instead of everywhere;
    images from far apart are then matched too, but nothing is found that is not within 14 pixels of it.
    """
    a, b = (_grey(picture) for picture in (one, other))
    forth, home = (None, None) if guess is None else (g[None] for g in guess)
    flow, alike = _flow(a, b, forth)
    back, _ = _flow(b, a, home)
    off = flow + _sample(back, flow)
    sure = (alike > ALIKE) & (_cornerness(a) > CORNER) & (off.norm(dim=1) < BACK)
    if forth is not None:
        sure &= forth.isfinite().all(1)
    place = _places(a)
    there = place + flow
    height, width = a.shape[-2:]
    sure &= (there >= 0).all(1) & (there[:, 0] < width) & (there[:, 1] < height)
    keep = sure[0].flatten()
    return Matches(place[0].flatten(1).T[keep], there[0].flatten(1).T[keep])


def sampson_distance(matches: Matches, fundamental: Tensor) -> Tensor:
    """How far [px] each match [N] is from its epipolar geometry, to first order; there^T F here = 0."""
    one = torch.ones(len(matches.here), 1, dtype=fundamental.dtype)
    here = torch.cat([matches.here.to(fundamental), one], 1)
    there = torch.cat([matches.there.to(fundamental), one], 1)
    line, line_back = here @ fundamental.T, there @ fundamental
    size = line[:, :2].square().sum(1) + line_back[:, :2].square().sum(1)
    return (there * line).sum(1).abs() / size.clamp_min(1e-30).sqrt()


def fundamental_matrix(T_here: Tensor, K_here: Tensor, T_there: Tensor, K_there: Tensor) -> Tensor:
    """F [3, 3] with there^T F here = 0, of two cameras (camera-to-world)."""
    T = torch.linalg.inv(T_there) @ T_here
    x, y, z = T[:3, 3]
    zero = torch.zeros_like(x)
    cross = torch.stack([torch.stack([zero, -z, y]), torch.stack([z, zero, -x]), torch.stack([-y, x, zero])])
    return torch.linalg.inv(K_there).T @ cross @ T[:3, :3] @ torch.linalg.inv(K_here)


def _grey(picture: Tensor) -> Tensor:
    return picture.float().mean(-1)[None, None]


def _places(a: Tensor) -> Tensor:
    """Pixel centres [1, 2, H, W]."""
    return torch.stack(pixel_grid(*a.shape[-2:], like=a))[None]


def _sample(image: Tensor, flow: Tensor) -> Tensor:
    """The image [1, C, H, W] at every pixel moved by the flow [1, 2, H, W]."""
    height, width = image.shape[-2:]
    place = (_places(image) + flow) / torch.tensor([width, height])[None, :, None, None] * 2 - 1
    return F.grid_sample(image, place.movedim(1, -1), padding_mode="border", align_corners=False)


def _cornerness(a: Tensor) -> Tensor:
    """The contrast [grey levels a pixel] in the direction that has least of it, [1, H, W]."""
    dx = F.pad(a[..., 2:] - a[..., :-2], (1, 1, 0, 0)) / 2
    dy = F.pad(a[..., 2:, :] - a[..., :-2, :], (0, 0, 1, 1)) / 2
    xx, xy, yy = (window_mean(x, PATCH) for x in (dx * dx, dx * dy, dy * dy))
    least = (xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt()
    return least.clamp_min(0).sqrt()[:, 0]


def _flow(a: Tensor, b: Tensor, guess: Tensor | None, level: int = 0) -> tuple[Tensor, Tensor]:
    """Where each pixel of a is in b, as a shift [1, 2, H, W], and how alike their patches are [1, H, W]."""
    height, width = a.shape[-2:]
    if min(height, width) >= 2 * COARSEST and (guess is None or level < GUIDED):
        halves = [F.avg_pool2d(x, 2) for x in (a, b)]
        half = None if guess is None else guess[..., : height // 2 * 2 : 2, : width // 2 * 2 : 2] / 2
        coarse, _ = _flow(halves[0], halves[1], half, level + 1)
        flow = 2 * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    else:
        flow = torch.zeros(1, 2, height, width) if guess is None else guess.nan_to_num(0.0)
    span = 2 * RADIUS + 1
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32)
    shifts = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2, 1, 1)
    scores = _correlation(a, _sample(b.expand(len(shifts), -1, -1, -1), flow + shifts))[:, 0]
    best, index = scores.max(0)
    dx, dy = index % span, index // span
    peak = torch.stack([dx - RADIUS + _peak(scores, index, dx, 1), dy - RADIUS + _peak(scores, index, dy, span)])
    within = (dx > 0) & (dx < span - 1) & (dy > 0) & (dy < span - 1)  # at the rim, the best may lie beyond
    return _median(flow + peak), (best * within)[None]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Normalised correlation of the patches around each pixel of an image [1, 1, H, W] and of others [N, 1, H, W]."""
    mean_a, mean_b, mean_ab = (window_mean(x, PATCH) for x in (a, b, a * b))
    spread_a, spread_b = (
        (window_mean(x * x, PATCH) - mean.square()).clamp_min(1) for x, mean in ((a, mean_a), (b, mean_b))
    )
    return (mean_ab - mean_a * mean_b) / (spread_a * spread_b).sqrt()


def _peak(scores: Tensor, index: Tensor, place: Tensor, stride: int) -> Tensor:
    """How far beside the best whole pixel the parabola through it and its neighbours peaks, [H, W] in -0.5..0.5."""
    inner = (place > 0) & (place < 2 * RADIUS)
    left, middle, right = (
        scores.gather(0, (index + shift).clamp(0, len(scores) - 1)[None])[0] for shift in (-stride, 0, stride)
    )
    curve = (2 * middle - left - right).clamp_min(1e-6)
    return torch.where(inner, ((right - left) / (2 * curve)).clamp(-0.5, 0.5), torch.zeros(()))


def _median(flow: Tensor) -> Tensor:
    """The median of each 3 x 3 neighbourhood: lone errors do not go on to the next level."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values
