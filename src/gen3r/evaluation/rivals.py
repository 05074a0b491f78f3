"""Trivial rivals, which a model has to beat: answers that do not look at the clip."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gen3r.evaluation.metrics import camera_auc

FARTHER = 2.0  # the row prior's depth of the top row over that of the bottom row; the best for other real clips
DIRECTIONS = {"forward": (0, 0, 1), "backward": (0, 0, -1), "left": (-1, 0, 0), "right": (1, 0, 0)}


def flat_wall(depth: Tensor) -> Tensor:
    """The same depth everywhere, of the shape [F, H, W]."""
    return torch.ones_like(depth)


def row_prior(depth: Tensor) -> Tensor:
    """What is lower in the picture is nearer, of the shape [F, H, W].

    The inverse depth grows linearly with the row, as that of a floor does, to `FARTHER` times that of the top.
    """
    down = (torch.arange(depth.shape[-2]) + 0.5) / depth.shape[-2]
    return (1 / (1 + (FARTHER - 1) * down))[:, None].expand_as(depth)


def standing_still(frames: int) -> Tensor:
    """Cameras [F, 4, 4] that neither move nor turn."""
    return torch.eye(4).repeat(frames, 1, 1)


def straight_line(frames: int, direction: str) -> Tensor:
    """Cameras [F, 4, 4] that move at constant speed and do not turn. direction: a key of `DIRECTIONS`."""
    T = standing_still(frames)
    T[:, :3, 3] = torch.arange(frames)[:, None] * torch.tensor(DIRECTIONS[direction]).float()
    return T


def best_direction(paths: Iterable[Tensor]) -> str:
    """The one of `DIRECTIONS` whose straight line has the best mean AUC@30 on paths [F, 4, 4]."""
    paths = list(paths)
    return max(DIRECTIONS, key=lambda name: sum(camera_auc(straight_line(len(T), name), T) for T in paths))
