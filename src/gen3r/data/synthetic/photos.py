"""Photographs that packages ship under a free licence, turned into clips by moving a crop over them.

From scikit-image (its data/README.txt gives each licence): images in the public domain or under CC0/CC BY.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TRAINING_PHOTOS = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "coins", "camera")


@lru_cache
def _photo(name: str) -> Tensor:
    """A training photo as float32 [3, H, W] in [0, 1]; grey ones become three equal channels."""
    from skimage import data

    image = torch.from_numpy(np.array(getattr(data, name)())).float() / 255
    image = image[..., None].expand(-1, -1, 3) if image.ndim == 2 else image[..., :3]
    return image.permute(2, 0, 1).contiguous()


def moving_photos(rng: np.random.Generator, frames: int, height: int, width: int) -> Tensor:
    """A clip uint8 [F, 3, H, W] of a crop that pans, turns and zooms over a random training photo."""
    photo = _photo(str(rng.choice(TRAINING_PHOTOS)))
    zoom = rng.uniform(0.2, 0.95) * np.exp(np.linspace(0, rng.normal(0, 0.1), frames))
    zoom = np.clip(zoom, 0.15, 1.0)
    angle = np.linspace(0, rng.normal(0, 0.05), frames)
    room = 1 - zoom.max()
    centre = rng.uniform(-room, room, (1, 2)) + np.linspace(0, 1, frames)[:, None] * rng.normal(0, 0.15, (1, 2))
    flip = rng.choice([-1.0, 1.0])
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    theta = np.stack([np.stack([flip * cos, -sin, centre[:, 0]], -1), np.stack([flip * sin, cos, centre[:, 1]], -1)], 1)
    # Shrink the photo first so that the crop is sampled near its own resolution, without aliasing.
    scale = min(1.0, 1.2 * height / (zoom.mean() * min(photo.shape[1:])))
    small = F.interpolate(photo[None], scale_factor=scale, mode="bilinear", antialias=True, align_corners=False)
    grid = F.affine_grid(torch.from_numpy(theta).float(), [frames, 3, height, width], align_corners=False)
    clip = F.grid_sample(small.expand(frames, -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
    return (clip * 255 + 0.5).clamp(0, 255).to(torch.uint8)
