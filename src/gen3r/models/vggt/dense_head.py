"""VGGT's dense heads: a DPT over four levels of tokens (Ranftl et al., 2021), with position embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen3r.models.vggt.aggregator import SPECIAL_TOKENS


def position_embedding(channels: int, height: int, width: int, aspect: float, device: torch.device) -> Tensor:
    """Sine and cosine of a grid that spans the image's aspect over its diagonal, [channels, height, width]."""
    diagonal = (aspect**2 + 1) ** 0.5
    x = torch.linspace(-1, 1, width, device=device) * aspect / diagonal * (width - 1) / width
    y = torch.linspace(-1, 1, height, device=device) / diagonal * (height - 1) / height
    frequency = 100.0 ** -(torch.arange(channels // 4, device=device) / (channels / 4))
    ax, ay = x[:, None] * frequency, y[:, None] * frequency
    ex, ey = (torch.cat([a.sin(), a.cos()], -1) for a in (ax, ay))
    grid = torch.cat([ex[None].expand(height, -1, -1), ey[:, None].expand(-1, width, -1)], -1)
    return grid.permute(2, 0, 1)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions; the skip carries relu(x), because the published ReLU works in place."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x)))


class Fusion(nn.Module):
    """Adds a finer level to what came from the coarser ones and enlarges the sum."""

    def __init__(self, features: int, coarsest: bool = False) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        if not coarsest:
            self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)

    def forward(self, x: Tensor, finer: Tensor | None, size: tuple[int, int]) -> Tensor:
        x = x if finer is None else x + self.resConfUnit1(finer)
        x = F.interpolate(self.resConfUnit2(x), size=size, mode="bilinear", align_corners=True)
        return self.out_conv(x)


class Scratch(nn.Module):
    """The convolutions after the projections, under their published names."""

    def __init__(self, channels: tuple[int, ...], features: int, outputs: int) -> None:
        super().__init__()
        for i, c in enumerate(channels, start=1):
            self.add_module(f"layer{i}_rn", nn.Conv2d(c, features, 3, padding=1, bias=False))
            self.add_module(f"refinenet{i}", Fusion(features, coarsest=i == len(channels)))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, outputs, 1)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        maps = [self.get_submodule(f"layer{i}_rn")(m) for i, m in enumerate(maps, start=1)]
        sizes = [(2 * maps[0].shape[-2], 2 * maps[0].shape[-1]), *(m.shape[-2:] for m in maps[:-1])]
        x = self.get_submodule(f"refinenet{len(maps)}")(maps[-1], None, sizes[-1])
        for i in range(len(maps) - 1, 0, -1):
            x = self.get_submodule(f"refinenet{i}")(x, maps[i - 1], sizes[i - 1])
        return self.output_conv1(x)


class DenseHead(nn.Module):
    """Per-pixel outputs of the frames, before their activation."""

    def __init__(self, dim: int, patch_size: int, channels: tuple[int, ...], features: int, outputs: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList([nn.Conv2d(dim, c, 1) for c in channels])
        self.resize_layers = nn.ModuleList([
            nn.ConvTranspose2d(channels[0], channels[0], 4, 4),
            nn.ConvTranspose2d(channels[1], channels[1], 2, 2),
            nn.Identity(),
            nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
        ])  # fmt: skip
        self.scratch = Scratch(channels, features, outputs)

    def forward(self, levels: list[Tensor], height: int, width: int) -> Tensor:
        """Levels of [N, 5 + h * w, 2C] -> [N, outputs, H, W]."""
        grid = (height // self.patch_size, width // self.patch_size)
        maps = []
        for level, project, resize in zip(levels, self.projects, self.resize_layers, strict=True):
            x = self.norm(level[:, SPECIAL_TOKENS:]).mT.unflatten(-1, grid)
            maps.append(resize(self._with_positions(project(x), height, width)))
        x = self.scratch(maps)
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
        return self.scratch.output_conv2(self._with_positions(x, height, width))

    @staticmethod
    def _with_positions(x: Tensor, height: int, width: int) -> Tensor:
        _, channels, rows, columns = x.shape
        return x + 0.1 * position_embedding(channels, rows, columns, width / height, x.device).to(x.dtype)
