"""Depth at the size of a photo: small predicted depth, smoothed and upsampled by the photo's edges."""

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 5.0  # pixels of the predicted depth, over which it is smoothed along a surface
EDGE_COLOUR, LEAST = 0.1, 0.001  # difference of colour that lowers smoothing to 1 / e, and what always remains of it
ITERATIONS = 100  # of conjugate gradients
OVERSHOOT = 15  # pixels around, at half the photo's size, whose predicted depths bound the smoothed one
JUMP, CLIFF = 16.0, 5  # pixels of parallax over so many pixels, from which on a slope of depth becomes a step


def upsample_depth(depth: Tensor, photo: Tensor, parallax: float) -> Tensor:
    """Depth [h, w] of a photo [3, H, W] at the photo's size, [H, W].

    The logarithm of depth is smoothed along surfaces, as the photo's edges bound them, at half the photo's size. What
    is left of slopes at the edges of objects becomes steps. parallax: focal length [px] times the longest baseline.
    """
    size = photo.shape[-2:]
    if size == depth.shape:
        return depth
    half = [max(n // 2, m) for n, m in zip(size, depth.shape, strict=True)]
    log = F.interpolate(depth.clamp_min(1e-6).log()[None, None], half, mode="bilinear", align_corners=False)[0, 0]
    low = F.interpolate(photo[None], half, mode="area")[0]
    smoothness = (REACH * half[0] / depth.shape[0]) ** 2
    smooth = smooth_by_edges(log, low, smoothness)
    twice = smooth + smooth_by_edges(log - smooth, low, smoothness)  # twicing, which keeps slopes
    least, greatest = (sign * F.max_pool2d(sign * log[None], OVERSHOOT, 1, OVERSHOOT // 2)[0] for sign in (-1, 1))
    log = twice.clamp(least, greatest)
    log = F.interpolate(log[None, None], size, mode="bilinear", align_corners=False)
    if parallax > 0:
        log = sharpen_steps((-log).exp() * parallax).div(parallax).log().neg()
    return log[0, 0].exp()


def sharpen_steps(shift: Tensor) -> Tensor:
    """Parallax [1, 1, H, W] in pixels, whose cliffs become steps.

    There, a pixel takes the nearer of the least and the greatest value around it, twice (toggle mapping; Kramer and
    Bruckner 1975). Then what is in front grows by two pixels: those along an outline have its colours.
    """
    for last in (False, False, True):
        greatest, least = (sign * F.max_pool2d(sign * shift, CLIFF, 1, CLIFF // 2) for sign in (1, -1))
        front = last | (greatest - shift < shift - least)
        shift = torch.where(greatest - least > JUMP, torch.where(front, greatest, least), shift)
    return shift


def smooth_by_edges(values: Tensor, guide: Tensor, smoothness: float) -> Tensor:
    """Values [h, w] smoothed within the regions of a guide [3, h, w]: weighted least squares (Farbman et al. 2008).

    smoothness: the weight of the squared difference of neighbours of one colour, over that of a value's change. The
    linear system is solved by conjugate gradients with its diagonal as preconditioner.
    """
    down, right = (
        smoothness * (torch.exp(-guide.diff(dim=axis).abs().sum(0) / EDGE_COLOUR) + LEAST) for axis in (1, 2)
    )

    def system(x: Tensor) -> Tensor:
        flows = F.pad(down * x.diff(dim=0), (0, 0, 1, 1)), F.pad(right * x.diff(dim=1), (1, 1))
        return x - flows[0].diff(dim=0) - flows[1].diff(dim=1)

    neighbours = F.pad(down, (0, 0, 0, 1)) + F.pad(down, (0, 0, 1, 0)) + F.pad(right, (0, 1)) + F.pad(right, (1, 0))
    diagonal = 1 + neighbours
    x, residual = values, values - system(values)
    direction = residual / diagonal
    energy = (residual * direction).sum()
    for _ in range(ITERATIONS):
        image = system(direction)
        step = energy / (direction * image).sum().clamp_min(1e-20)
        x, residual = x + step * direction, residual - step * image
        before, energy = energy, (residual.square() / diagonal).sum()
        direction = residual / diagonal + energy / before.clamp_min(1e-20) * direction
    return x
