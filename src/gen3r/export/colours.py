"""Colours without gamma, in which glTF and USD keep those of points."""

import torch
from torch import Tensor


def linear_colours(srgb: Tensor) -> Tensor:
    """Linear colours float32 [..., 3], 0 to 1, of 8-bit sRGB ones [..., 3] (IEC 61966-2-1)."""
    shade = torch.arange(256) / 255
    linear = torch.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
    return linear[srgb.long()]
