"""Image-based rendering: photos with depth drawn into other cameras, over the frames that a model generated.

Each photo is drawn by a z-buffer of its depth, and its colours are sampled backwards. Photos are blended by the angle
and distance between their cameras and the new one (Buehler et al. 2001). What no photo shows comes from the generated
frames, moved to the photos' colours and depth by a smooth offset (Perez et al. 2003), pulled from the far side of each
edge: what appears behind an edge continues the background. A share of the coarse colours is everywhere that of the
generated frames, which are right more often where the depth is wrong, within limits that leave no second image.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.rays import pixel_grid
from gen3r.geometry.points import project, unproject, window_mean

MAX_STRETCH = 5.0  # of a photo, from pixel to pixel; beyond it is torn
SUBPIXELS = 2  # points per side of a pixel
CLOSED, MOST_POINTS = 2.5, 16  # how much nearer a surface may come with as many; points per pixel of the photo at most
NEAR = 1e-3  # least z-depth, in the unit of the cameras, of a point that is drawn
GAP = 0.01  # of the longer side: the widest gap in a surface that is closed
SAME_SURFACE = 0.05  # largest difference of the logarithms of depth within a surface
FADING = 0.03  # of the longer side: how far two photos fade into each other
FEATHER = 0.006  # of the longer side: how far a photo fades out towards what it does not show
BACKGROUND = 16.0  # exponent of depth in the weights of what surrounds a hole
RIM = 0.3  # of the longer side: what lies so near to a hole, and before its far side, does not fill it
NEARBY = 0.25  # of the longer side: where generated frames have taken over from continued photos
TEXTURE, FADE = 0.02, 0.03  # of the longer side: the coarsest texture, and how far it is continued
SMOOTH = 0.03  # of the longer side: windows over which the way to the nearest texture is averaged
ANGLE = 0.003  # radians between two views of a point below which they are equally good
SURE = 0.98  # opacity from which on a photo's pixels are continued: at its very edge they may be another object's
HIDDEN = 0.02  # factor on the weight of a photo behind what another photo shows
FARTHER = 0.01  # radians that the logarithm of the ratio of distances counts
COARSE = 112  # most pixels of the longer side at which colours are coarse
SHARE, MOST = 0.5, 0.05  # of the difference to the generated frames' coarse colours, and how much of it counts
PARALLAX = 0.05  # radians between two views of a point from which the share is whole: errors of depth show by then
MAX_GAIN = 2.0  # of a photo's exposure over the other's
MIN_OVERLAP = 0.02  # share of the frame that tells two exposures

Camera = tuple[Tensor, Tensor]  # T_world_camera [4, 4], K_px [3, 3]


@dataclass(frozen=True)
class View:
    """A photo as a camera sees it.

    colour: [3, H, W]. z: z-depth [H, W], 1 where the photo shows nothing. opacity: [H, W] in [0, 1], which fades out
    towards what the photo does not show. penalty: [H, W], the angle in radians between the photo's ray and the
    camera's, and more where the photo was taken from farther away.
    """

    colour: Tensor
    z: Tensor
    opacity: Tensor
    penalty: Tensor


def render_photos(
    generated: Tensor,
    generated_depth: Tensor,
    photos: Tensor,
    depth: Tensor,
    frame_indices: list[int],
    cameras: Cameras,
    frames: Iterable[int],
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Colours [3, H, W] in [0, 1], z-depth [H, W] and source uint8 [H, W] of these frames of a clip.

    generated: [F, 3, h, w] in [0, 1], whole frames of any size and shape. generated_depth: [F, h, w]. photos:
    [n, 3, H, W]. depth: their z-depth [n, H, W] in the unit of the cameras. frame_indices: where their cameras stand.
    source: the photo with the most weight, 1 for the first; 0 for what is generated. All float32 and on one device.
    """
    poses, K_px = (x.to(photos.device) for x in (cameras.T_world_camera, cameras.K_px))
    taken = [(poses[i], K_px[i]) for i in frame_indices]
    gain = exposure_gain(photos, depth, taken) if len(photos) == 2 else photos.new_zeros(3)
    for f in frames:
        if f in frame_indices:
            k = frame_indices.index(f)
            yield photos[k], depth[k], torch.full(depth[k].shape, k + 1, dtype=torch.uint8, device=photos.device)
            continue
        part = f / max(frame_indices[-1], 1)  # of the way to the last photo, whose exposure comes in evenly
        exposed = [photo * (gain * (part - k)).exp()[:, None, None] for k, photo in enumerate(photos)]
        target = (poses[f], K_px[f])
        views = [draw_photo(*x, target) for x in zip(exposed, depth, taken, strict=True)]
        base = torch.cat([generated[f], generated_depth[f].clamp_min(NEAR).log()[None]])
        base = F.interpolate(base[None], photos.shape[-2:], mode="bicubic", align_corners=False)[0]
        colour, z, source = composite(base, views)
        parallax = torch.stack([v.penalty.where(v.opacity > 0.5, torch.inf) for v in views]).amin(0)
        yield _with_coarse_colours(colour, generated[f], (parallax / PARALLAX).clamp_max(1)), z, source


def _with_coarse_colours(image: Tensor, generated: Tensor, part: Tensor) -> Tensor:
    """An image [3, H, W] with a share of the coarse colours of a generated one [3, h, w]; of it a part [H, W]."""
    height, width = generated.shape[-2:]
    factor = min(1.0, COARSE / max(height, width))
    size = max(1, round(factor * height)), max(1, round(factor * width))
    coarse, wanted = (F.interpolate(x[None], size, mode="area") for x in (image, generated))
    difference = (wanted - coarse).clamp(-MOST, MOST)
    difference = F.interpolate(difference, image.shape[-2:], mode="bicubic", align_corners=False)[0]
    return (image + SHARE * part * difference.clamp(-MOST, MOST)).clamp(0, 1)


def composite(base: Tensor, views: list[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Colours, z-depth and source of blended views, over the generated colours and log depth [4, H, W].

    Over a base of zeros, what no photo shows is continued from what they show.
    """
    colour, z, opacity, penalty = (torch.stack([getattr(v, x.name) for v in views]) for x in fields(View))
    hidden = z > z.where(opacity > 0.5, torch.inf).amin(0) * (1 + SAME_SURFACE)
    weight = opacity * torch.where(hidden, HIDDEN, 1) / (penalty + ANGLE).square()
    best = weight.argmax(0)
    if len(views) > 1:
        weight /= weight.sum(0).clamp_min(1e-12)
        window = 2 * round(FADING * max(z.shape) / 2) + 1
        weight, inside = (window_mean(window_mean(x, window), window) for x in (weight, opacity))
        weight = opacity * weight.clamp_min(1e-6) * (2 * inside - 1).clamp_min(1e-3)  # less towards a photo's margin
    colour = (colour * weight[:, None]).sum(0) / weight.sum(0).clamp_min(1e-12)
    cover = opacity.amax(0)
    seen = cover > 0.5
    z = z.gather(0, best[None])[0].where(seen, 1)
    filled = _fill(base, torch.cat([colour, z.log()[None]]), z, cover > SURE) if not seen.all() else base
    colour = (cover * colour + (1 - cover) * filled[:3]).clamp(0, 1)
    return colour, torch.where(seen, z, filled[3].exp()), torch.where(seen, best + 1, 0).to(torch.uint8)


def _fill(base: Tensor, layer: Tensor, z: Tensor, seen: Tensor) -> Tensor:
    """What no photo shows, [4, H, W], of the generated `base` and of the `layer` that the photos show.

    Near the photos, the layer is continued from the far side of its edges, with its texture mirrored. Farther away,
    the base takes over, less the smooth difference that it has from the layer.
    """
    longer = max(z.shape)
    if not bool(seen.any()):
        return base
    beyond = z.where(seen, torch.inf)
    beyond = _window_max(torch.maximum(_far_side(beyond), _far_side(beyond.mT).mT), 2 * round(RIM * longer / 2) + 1)
    weight = seen * (z / beyond.clamp_min(NEAR)).clamp_max(1) ** BACKGROUND
    continued, difference = push_pull(torch.cat([layer, layer - base]) * weight, weight[None]).split(4)
    background = weight > 0.5
    distance: Any = distance_transform_edt(~background.cpu().numpy(), return_indices=True)
    away, nearest = distance
    away = torch.from_numpy(away).to(base) / longer
    filled = torch.lerp(continued, base + difference, (away / NEARBY).clamp_max(1))
    place = torch.stack(pixel_grid(*z.shape, like=z))  # x, y
    way = window_mean(torch.from_numpy(nearest).flip(0).to(z) + 0.5 - place, 2 * round(SMOOTH * longer / 2) + 1)
    mirrored = (place + 2 * way).movedim(0, -1) / z.new_tensor([z.shape[1], z.shape[0]])
    texture = _texture(layer[:3], background.float(), 2 * round(TEXTURE * longer / 2) + 1)
    texture = F.grid_sample(texture[None], 2 * mirrored[None] - 1, padding_mode="reflection", align_corners=False)[0]
    filled[:3] += texture * torch.exp(-away / FADE)
    return filled


def _texture(image: Tensor, known: Tensor, window: int) -> Tensor:
    """An image [3, H, W] less its mean over windows of what is known, [H, W]; 0 where it is not known."""
    total, count = (window_mean(window_mean(x, window), window) for x in (image * known, known[None]))
    return (image - total / count.clamp_min(1e-6)) * known


def push_pull(values: Tensor, weight: Tensor) -> Tensor:
    """A smooth extension of values [C, H, W], given times their weight [1, H, W] in [0, 1] (Gortler et al. 1996)."""
    height, width = values.shape[-2:]
    if height * width == 1:
        return values / weight.clamp_min(1e-12)
    pad = (0, width % 2, 0, height % 2)
    total = _pairs(F.pad(weight, pad))
    kept = total.clamp_max(1)
    coarse = push_pull(_pairs(F.pad(values, pad)) * (kept / total.clamp_min(1e-12)), kept)
    filled = F.interpolate(coarse[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return values + (1 - weight) * filled[..., :height, :width]


def _pairs(x: Tensor) -> Tensor:
    """Sums of 2 x 2 pixels of x [..., H, W]."""
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return rows[..., ::2] + rows[..., 1::2]


def draw_photo(
    photo: Tensor, depth: Tensor, source: Camera, target: Camera, size: tuple[int, int] | None = None
) -> View:
    """A photo [3, H, W] of z-depth [H, W], taken by the camera `source`, as the camera `target` sees it.

    size: height and width of the target's image; the photo's own by default.
    """
    height, width = size or depth.shape
    longer = max(height, width)
    z = _close_gaps(draw_depth(depth, source, target, (height, width)), 1 + round(GAP * longer))
    seen = _window_max(_window_min(z.isfinite().float(), 3), 3) > 0.5  # no floating specks
    z = z.where(seen, 1)
    points = unproject(z, *target)
    pixel = project(points.flatten(0, 1), *source)[0].view(height, width, 2)
    edge = pixel.new_tensor([depth.shape[1], depth.shape[0]])
    seen &= ((pixel >= 0) & (pixel <= edge)).all(-1)
    to_source, to_target = (points - T[:3, 3] for T in (source[0], target[0]))
    angle = torch.atan2(torch.linalg.cross(to_source, to_target).norm(dim=-1), (to_source * to_target).sum(-1))
    farther = (to_source.norm(dim=-1) / to_target.norm(dim=-1).clamp_min(NEAR)).clamp_min(1).log()
    place = (2 * pixel / edge - 1)[None]
    colour = F.grid_sample(photo[None], place, mode="bicubic", padding_mode="border", align_corners=False)[0]
    mean, count = (window_mean(x, 3) for x in (colour * seen, seen[None].float()))
    edge = seen & (_reach(pixel.movedim(-1, 0), seen) > MAX_STRETCH)  # each pixel there shows one side of it alone
    colour = torch.where(edge, (colour + mean / count.clamp_min(1e-6)) / 2, colour)
    opacity = _feather(seen, max(1, round(FEATHER * longer / 2)))
    return View(colour.clamp(0, 1), z, opacity, angle + FARTHER * farther)


def exposure_gain(photos: Tensor, depth: Tensor, views: list[Camera]) -> Tensor:
    """The logarithm of the second photo's exposure over the first one's, [3], by the median of what both show."""
    view = draw_photo(photos[1], depth[1], views[1], views[0])
    both = (view.opacity == 1) & (torch.stack([view.colour, photos[0]]).amin((0, 1)) > 0.05)
    if both.float().mean() < MIN_OVERLAP:
        return photos.new_zeros(3)
    ratio = (view.colour[:, both] / photos[0][:, both]).median(1).values
    return ratio.clamp(1 / MAX_GAIN, MAX_GAIN).log()


def draw_depth(depth: Tensor, source: Camera, target: Camera, target_size: tuple[int, int] | None = None) -> Tensor:
    """Depth [H, W] of one camera as another sees it: the nearest z-depth in each pixel, inf where there is none.

    target_size: height and width of the other's image; the first one's by default.

    Between the pixels of a surface, points are interpolated, more of them where it comes nearer. Where the photo would
    be stretched more than `MAX_STRETCH` times as much as its nearness explains, it is torn.
    """
    height, width = target_size or depth.shape
    pixel, z = project(unproject(depth, *source).flatten(0, 1), *target)
    nearness = target[1][0, 0] / source[1][0, 0] * depth / z.view_as(depth).clamp_min(NEAR)
    drawn = torch.cat([pixel, z[:, None]], 1).T.view(3, *depth.shape)
    margin = nearness.clamp_min(1)
    shown = (drawn[2] > NEAR) & (drawn[0] > -margin) & (drawn[0] < width + margin)
    shown &= (drawn[1] > -margin) & (drawn[1] < height + margin)
    if not bool(shown.any()):
        return depth.new_full((height, width), torch.inf)
    part = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in (shown.any(d).nonzero()[:, 0] for d in (1, 0)))
    drawn, nearness, shown = drawn[:, *part], nearness[part], shown[part]  # the nearer, the less of it there is
    torn = _reach(drawn[:2], torch.ones_like(shown)) > MAX_STRETCH * (nearness / CLOSED).clamp_min(1)
    finer = SUBPIXELS * math.ceil(float(nearness[shown].max()) / CLOSED)
    finer = max(SUBPIXELS, min(finer, math.isqrt(MOST_POINTS * depth.numel() // shown.numel())))
    size = tuple(finer * side for side in shown.shape)
    torn = F.interpolate(torn[None, None].float(), size)[0, 0] > 0
    place = (torch.stack(pixel_grid(*size, like=z)) / finer).frac() - 0.5
    nearest = F.interpolate(drawn[None], size)[0] + torch.cat([place, torch.zeros_like(place[:1])])
    between = F.interpolate(drawn[None], size, mode="bilinear", align_corners=False)[0]
    points = torch.where(torn, nearest, between).flatten(1)
    inside = ((points >= 0).all(0) & (points[0] < width) & (points[1] < height) & (points[2] > NEAR)).nonzero()[:, 0]
    x, y, z = points[:, inside]
    buffer = depth.new_full((height * width,), torch.inf)
    z = buffer.scatter_reduce_(0, y.long() * width + x.long(), z, "amin").view(height, width)
    closed = _window_max(_window_min(z, 3), 3)  # what is behind does not show through the gaps between points
    return torch.where(closed * (1 + SAME_SURFACE) < z, closed, z)


def _reach(place: Tensor, known: Tensor) -> Tensor:
    """How far places [2, H, W] lie apart from pixel to pixel, [H, W]: in 3 x 3 pixels, of those that are known, [H, W],
    and along the axis of more."""
    return (_window_max(place.where(known, -torch.inf), 3) - _window_min(place.where(known, torch.inf), 3)).amax(0) / 2


def _close_gaps(z: Tensor, widest: int) -> Tensor:
    """z-depth [H, W] with what is missing inside surfaces, along rows and columns, twice."""
    for _ in range(2):
        z = _close_rows(_close_rows(z, widest).mT, widest).mT
    return z


def _close_rows(z: Tensor, widest: int) -> Tensor:
    between, left, right, part, width = _row_ends(z)
    same = (left / right).log().abs() < SAME_SURFACE
    return torch.where(between & (width <= widest) & same, left + part * (right - left), z)


def _far_side(z: Tensor) -> Tensor:
    """In the gaps of z-depth [H, W], the farther one of the two ends in the row; 0 elsewhere."""
    between, left, right, _, _ = _row_ends(z)
    return torch.where(between, torch.maximum(left, right), 0)


def _row_ends(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Where z-depth [H, W] has gaps inside its rows; and there the depth at both ends, or 1, the part of the way from
    left to right, and the width in pixels."""
    known, n = z.isfinite(), z.shape[1]
    column = torch.arange(n, device=z.device).expand_as(z)
    before = torch.where(known, column, -1).cummax(1).values
    after = torch.where(known, column, n).flip(1).cummin(1).values.flip(1)
    between = ~known & (before >= 0) & (after < n)
    left, right = (z.gather(1, i.clamp(0, n - 1)).where(between, 1) for i in (before, after))
    return between, left, right, (column - before) / (after - before).clamp_min(1), after - before - 1


def _feather(seen: Tensor, radius: int) -> Tensor:
    """Opacity [H, W]: 0 outside of what is seen, and 1 deeper inside than twice the radius."""
    inner = _window_min(seen.float(), 2 * radius + 1)
    return seen * window_mean(inner[None], 2 * radius + 1)[0]


def _window_max(x: Tensor, size: int) -> Tensor:
    """The greatest value in windows around every pixel of x [..., H, W]; the odd `size` is their side.

    Windows grow by doubling, which is much faster than torch's pooling.
    """
    for _ in range(2):
        x = F.pad(x.mT, (size // 2, size // 2), value=-torch.inf)
        width = 1
        while width < size:
            step = min(width, size - width)
            x = torch.maximum(x[..., :-step], x[..., step:])
            width += step
    return x


def _window_min(x: Tensor, size: int) -> Tensor:
    return -_window_max(-x, size)
