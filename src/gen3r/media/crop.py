"""Resizing an image to cover a size and cropping its centre: the arithmetic for pixels, depth and intrinsics."""

from typing import NamedTuple

Size = tuple[int, int]  # height, width
MAX_ASPECT = 4.0  # of frames in the shape of a photo; longer photos are cropped


class CoverCrop(NamedTuple):
    """The resize factor, and the left and top edges of the crop in whole pixels of the resized image."""

    scale: float
    left: int
    top: int


def cover_crop(size: Size, target: Size) -> CoverCrop:
    """How an image of `size` covers `target` (both height, width), as in the published preparation of images."""
    scale = max(target[0] / size[0], target[1] / size[1])
    top, left = ((int(s * scale + 1e-6) - t) // 2 for s, t in zip(size, target, strict=True))
    return CoverCrop(scale, left, top)
