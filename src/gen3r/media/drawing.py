"""Drawing: depth in colours, and sheets of labelled images."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, GAP, LABEL = 1200, 8, 26  # pixels of a sheet, between images, and of a line of text
THUMBNAILS = 6  # in a strip
SUPERSAMPLE = 2
BACKGROUND, CLOUD_BACKGROUND, INK = (18, 20, 26), (30, 33, 41), (214, 218, 226)
# From far to near. Lightness rises evenly, so the order shows in grey too and to colour-blind eyes.
_ANCHORS = (
    (20, 16, 46), (42, 33, 104), (38, 68, 148), (22, 108, 160), (20, 146, 152),
    (62, 180, 126), (136, 204, 92), (212, 214, 84), (250, 216, 120), (255, 240, 200),
)  # fmt: skip
_INVALID = (0, 0, 0)


def colour_depth(depth: Tensor, mask: Tensor) -> Tensor:
    """Colours uint8 [F, H, W, 3] of depth [F, H, W]: inverse depth between its 2nd and 98th percentiles in the mask.

    Inverse depth spends the colours as the image does, most on what is near. What has no finite positive depth is
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


def strip(frames: Tensor, columns: int = THUMBNAILS) -> Image.Image:
    """Frames uint8 [N, H, W, 3], at most `columns`, in a row as wide as a sheet."""
    width = (WIDTH - (columns + 1) * GAP) // columns
    size = (width, max(1, round(width * frames.shape[1] / frames.shape[2])))
    return side_by_side([Image.fromarray(f.numpy()).resize(size, Image.Resampling.BICUBIC) for f in frames])


def labelled(text: str, image: Image.Image) -> Image.Image:
    """An image with a line of text over it."""
    sheet = Image.new("RGB", (image.width, image.height + LABEL), BACKGROUND)
    sheet.paste(image, (0, LABEL))
    ImageDraw.Draw(sheet).text((2, LABEL // 2), text, INK, ImageFont.load_default(15), anchor="lm")
    return sheet


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Images in a row, with gaps."""
    width = sum(p.width for p in images) + GAP * (len(images) - 1)
    sheet = Image.new("RGB", (width, max(p.height for p in images)), BACKGROUND)
    for i, image in enumerate(images):
        sheet.paste(image, (sum(p.width for p in images[:i]) + GAP * i, 0))
    return sheet


def stacked(rows: list[Image.Image], width: int = WIDTH) -> Image.Image:
    """Rows under each other, with a margin."""
    sheet = Image.new("RGB", (width, sum(r.height + GAP for r in rows) + GAP), BACKGROUND)
    for i, row in enumerate(rows):
        sheet.paste(row, (GAP, GAP + sum(r.height + GAP for r in rows[:i])))
    return sheet
