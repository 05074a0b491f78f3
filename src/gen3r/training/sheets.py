"""Sample sheets: a stage's output for a few fixed clips that it is not trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from gen3r.data.records import Clip
from gen3r.media.drawing import THUMBNAILS, colour_depth, labelled, stacked, strip
from gen3r.media.images import evenly_spaced

if TYPE_CHECKING:
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.training.stages.stage import Stage


@torch.no_grad()
def sample_sheet(stage: "Stage", pipe: "Gen3RPipeline", clips: Sequence[Clip]) -> Image.Image:
    """The clips under each other, each with the stage's rows. pipe: the components in training."""
    pipe.to(next(p.device for p in stage.parameters() if p.requires_grad))  # frozen components may be elsewhere
    rows = [row for clip in clips for row in [("frames", clip.frames), *stage.sheet_rows(pipe, clip)]]
    return stacked([labelled(text, strip(frames[_shown(len(frames))].cpu())) for text, frames in rows])


def pixels(images: Tensor) -> Tensor:
    """Images [F, 3, H, W] in [0, 1] -> uint8 [F, H, W, 3]."""
    return (255 * images).round().byte().permute(0, 2, 3, 1)


def depth_colours(depth: Tensor) -> Tensor:
    """Depth [F, H, W], 0 where unknown -> colours uint8 [F, H, W, 3]."""
    return colour_depth(depth.cpu(), depth.cpu() > 0)


def _shown(frames: int) -> list[int]:
    return evenly_spaced(frames, min(frames, THUMBNAILS))
