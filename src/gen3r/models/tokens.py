"""The packing of VGGT's tokens into the adapter's channels: the only place that knows their order."""

import torch
from torch import Tensor

from gen3r.models.vggt import VGGT
from gen3r.models.vggt.aggregator import SPECIAL_TOKENS


def pack_tokens(levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """Levels of [B, F, 5 + h * w, D] -> [B, (levels + 1) * D, F, h, w] (Gen3R, sec. 3.2).

    The levels' patch tokens come first, then the last level's camera token, spread over the grid.
    """
    h, w = grid
    maps = [x[:, :, SPECIAL_TOKENS:].unflatten(2, (h, w)) for x in levels]
    camera = levels[-1][:, :, 0, None, None].expand(-1, -1, h, w, -1)
    return torch.cat([*maps, camera], dim=-1).permute(0, 4, 1, 2, 3)


def packed_tokens(vggt: VGGT, images: Tensor) -> Tensor:
    """The packed tokens of images [B, F, 3, H, W] in [0, 1]."""
    patch = vggt.config["patch_size"]
    return pack_tokens(vggt.tokens(images), (images.shape[-2] // patch, images.shape[-1] // patch))


def unpack_tokens(packed: Tensor, levels: int = 4) -> list[Tensor]:
    """The inverse: the camera part is averaged over the grid and stands for all special tokens of every level."""
    *maps, camera = packed.permute(0, 2, 3, 4, 1).chunk(levels + 1, dim=-1)
    special = camera.mean((2, 3))[:, :, None].expand(-1, -1, SPECIAL_TOKENS, -1)
    return [torch.cat([special, m.flatten(2, 3)], dim=2) for m in maps]
