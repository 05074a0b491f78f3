"""depth.mp4: depth as colours, near bright, far dark, on the same scale over the whole clip."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gen3r.export.video import write_video
from gen3r.scene import Scene

# From far to near. Lightness rises evenly, so the order shows in grey too and to colour-blind eyes.
_ANCHORS = (
    (20, 16, 46), (42, 33, 104), (38, 68, 148), (22, 108, 160), (20, 146, 152),
    (62, 180, 126), (136, 204, 92), (212, 214, 84), (250, 216, 120), (255, 240, 200),
)  # fmt: skip
_INVALID = (0, 0, 0)


def write_depth_video(scene: Scene, path: Path) -> None:
    """Writes the scene's depth in colours."""
    write_video(colour_depth(scene.depth, scene.mask), path)


def colour_depth(depth: Tensor, mask: Tensor) -> Tensor:
    """Colours uint8 [F, H, W, 3] of depth [F, H, W]: inverse depth between its 2nd and 98th percentiles in the mask.

    Inverse depth spends the colours as the picture does, most on what is near. What has no finite positive depth is
    black; what the mask leaves out is coloured all the same.
    """
    known = depth.isfinite() & (depth > 0)
    inverse = torch.where(known, 1 / depth.where(known, torch.ones_like(depth)), torch.zeros_like(depth)).cpu()
    trusted = inverse[(known & mask).cpu()] if bool((known & mask).any()) else inverse.flatten()
    far, near = np.quantile(trusted.numpy(), (0.02, 0.98))
    level = ((inverse - float(far)) / max(float(near - far), 1e-12)).clamp(0, 1)
    colours = apply_colour_map(level)
    colours[~known.cpu()] = torch.tensor(_INVALID, dtype=torch.uint8)
    return colours


def apply_colour_map(level: Tensor) -> Tensor:
    """Colours uint8 [..., 3] of levels [...] in [0, 1]."""
    anchors = torch.tensor(_ANCHORS, dtype=torch.float32)
    place = level.float().clamp(0, 1) * (len(anchors) - 1)
    below = place.floor().long().clamp(max=len(anchors) - 2)
    part = (place - below)[..., None]
    return (anchors[below] * (1 - part) + anchors[below + 1] * part + 0.5).to(torch.uint8)
