"""Models that see the geometry of photos in place of the pipeline's own VGGT."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.media.crop import MAX_ASPECT, Size
from gen3r.media.images import resize
from gen3r.models.vggt import VGGT, GeometryPrediction

LONG_SIDE = 518  # of the images that VGGT was trained on
PATCH = 14
PHOTOS = 4  # more frames are a clip, which VGGT sees in the clip's size
SMALLER = (2 / 3, 4 / 9, 8 / 27)  # shares of a photo's pixels in which VGGT sees it again


class GeometryModel(Protocol):
    """Cameras and depth of photos of any size."""

    def predict(self, frames: Tensor) -> GeometryPrediction:
        """Cameras and depth of frames [B, n, 3, H, W] in [0, 1], at `patch_size(H, W)`."""
        ...


class VGGTGeometry:
    """A VGGT of any size. It sees frames whole, at `patch_size`."""

    def __init__(self, vggt: VGGT) -> None:
        self.vggt = vggt

    @torch.no_grad()
    def predict(self, frames: Tensor) -> GeometryPrediction:
        """Cameras and depth of frames [B, n, 3, H, W] in [0, 1], at `patch_size(H, W)`.

        One frame at a time goes through the dense heads, to bound memory.
        """
        height, width = frames.shape[-2:]
        size = patch_size(height, width)
        self.vggt.to(frames.device)  # pyright: ignore[reportArgumentType]
        levels = self.vggt.tokens(resize(frames, *size).to(self.vggt.dtype))
        return self.vggt.heads(levels, *size, frames_chunk=1, points=False)


def patch_size(height: int, width: int) -> Size:
    """The nearest size in multiples of 14 with the same aspect, and with a longer side of at most 518."""
    scale = min(1, LONG_SIDE / max(height, width))
    high, wide = (max(PATCH, PATCH * round(side * scale / PATCH)) for side in (height, width))
    return high, wide


def usual_pixels(defaults: Mapping[str, Any], frames: int) -> int:
    """The pixels of each of so many frames at which a model's VGGT sees them. defaults: the pipeline's."""
    photo_size = defaults.get("photo_size")
    return photo_size**2 if photo_size and frames <= PHOTOS else defaults["height"] * defaults["width"]


def fitting_size(height: int, width: int, pixels: float, patch: int = PATCH) -> Size:
    """Multiples of the patch size in the shape of `height` x `width`, with about this number of pixels.

    One side is at most four times the other.
    """
    aspect = min(max(height / width, 1 / MAX_ASPECT), MAX_ASPECT)
    high, wide = (max(1, round(math.sqrt(pixels * x) / patch)) for x in (aspect, 1 / aspect))
    return patch * high, patch * wide


def with_averaged_depth(
    prediction: GeometryPrediction, photos: Tensor, predict: Callable[[Tensor], GeometryPrediction], patch: int
) -> GeometryPrediction:
    """A prediction for single photos [B, 1, 3, H, W], its depth averaged with that of the photos in fewer pixels.

    Every second look is at the mirrored photo. Logarithms are averaged, which moves patches as wholes, so that edges
    stay sharp. Scale, confidence and cameras stay. predict: the model, for photos in multiples of `patch`.
    """
    size, (height, width) = prediction.depth.shape[-2:], photos.shape[-2:]
    patches = size[0] // patch, size[1] // patch
    logarithms = [_centred(prediction.depth)]
    for number, share in enumerate(SMALLER):
        axes = (-1,) if number % 2 == 0 else ()
        smaller = resize(photos, *fitting_size(height, width, share * size[0] * size[1], patch))
        depth = predict(smaller.flip(axes)).depth.flip(axes)
        logarithms.append(_centred(F.interpolate(depth, size, mode="bilinear")))
    change = F.interpolate(torch.stack(logarithms).mean(0) - logarithms[0], patches, mode="area")
    return replace(prediction, depth=prediction.depth * F.interpolate(change, size, mode="bilinear").exp())


def _centred(depth: Tensor) -> Tensor:
    """The logarithm of depth [B, 1, H, W] over its mean in each photo."""
    logarithm = depth.clamp_min(torch.finfo(depth.dtype).tiny).log()
    return logarithm - logarithm.mean((-2, -1), keepdim=True)


def resize_maps(prediction: GeometryPrediction, height: int, width: int) -> GeometryPrediction:
    """A prediction of cameras and depth with maps of another size.

    Larger maps are interpolated; smaller ones keep pixels, and so edges.

    The cameras stay: their angles of view do not depend on the size.
    """
    before = prediction.depth.shape[-2:]
    if before == (height, width):
        return prediction

    def resized(maps: Tensor) -> Tensor:
        mode = "bilinear" if height * width > before[0] * before[1] else "nearest-exact"
        return F.interpolate(maps, (height, width), mode=mode)

    return replace(prediction, depth=resized(prediction.depth), depth_confidence=resized(prediction.depth_confidence))
