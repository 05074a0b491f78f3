"""Windows around pixels."""

import torch.nn.functional as F
from torch import Tensor


def window_mean(images: Tensor, size: int) -> Tensor:
    """Means of images [..., N, H, W] over squares of `size` pixels, an odd number, cut off at the margin."""
    half = size // 2
    images = F.avg_pool2d(images, (size, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(images, (1, size), 1, (0, half), count_include_pad=False)
