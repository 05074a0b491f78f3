"""The sky: what is far, and the slopes of predicted depth around it."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

WORKING_SIDE = 112  # pixels of the longer side at which the colours of the sky are spread
SPREAD = 14  # of those pixels: the standard deviation of how far they are spread
SLOPE = 20.0  # degrees below which a surface may be such a slope
SAME = 30  # of 255: how much a pixel of the sky may differ from the colours of the sky around it
SAME_GENERATED = 60  # where no photo shows it: generated colours are mixed with those of what is in front


def find_sky(
    depth: Tensor, angles: Tensor, colours: Tensor, far: float, near: float, source: Tensor | None = None
) -> Tensor:
    """bool [H, W] of z-depth [H, W] and colours uint8 [H, W, 3]: what is farther than `far`, and slopes to the sky.

    angles: of `grazing_angles` [H, W], in degrees. source: as in a scene, [H, W].

    Predicted depth slopes from an object to the sky around it. Such a slope has the sky's colours and is seen at a
    grazing angle: it is connected by such pixels, all farther than `near`, with what is far and reaches the top.
    """
    distant = (depth > far).numpy()
    top = np.zeros_like(distant)
    top[0] = distant[0]
    seed = ndimage.binary_propagation(top, mask=distant)
    if not seed.any():
        return torch.from_numpy(distant)
    height, width = depth.shape
    image, step = colours.numpy().astype(np.float32), -(-max(height, width) // WORKING_SIDE)
    weight = seed[::step, ::step, None].astype(np.float32)
    sums = ndimage.gaussian_filter(image[::step, ::step] * weight, (SPREAD, SPREAD, 0))
    around = sums / (ndimage.gaussian_filter(weight, (SPREAD, SPREAD, 0)) + 1e-6)
    around = around.repeat(step, 0).repeat(step, 1)[:height, :width]
    slope = (angles < SLOPE) & (depth > near)
    same = SAME if source is None else np.where(source.numpy() == 0, SAME_GENERATED, SAME)
    alike = (np.abs(image - around).max(-1) < same) & slope.numpy()
    return torch.from_numpy(distant | ndimage.binary_propagation(seed, mask=seed | alike))
