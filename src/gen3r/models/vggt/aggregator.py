"""VGGT's trunk: a DINOv2 patch embedding, then attention within each frame and across all frames in turn."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen3r.models.vggt.blocks import Block, rope_2d

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
REGISTERS = 4
SPECIAL_TOKENS = 1 + REGISTERS


class PatchProjection(nn.Module):
    """A patch-sized convolution."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).mT


class PatchEmbed(nn.Module):
    """DINOv2 with registers; gives the patch tokens of its final norm."""

    def __init__(self, dim: int, depth: int, heads: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        side = image_size // patch_size
        self.patch_size, self.side = patch_size, side
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, REGISTERS, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # DINOv2's; kept so that checkpoints load whole
        self.patch_embed = PatchProjection(patch_size, dim)
        self.blocks = nn.ModuleList([Block(dim, heads, 1.0, eps=1e-6) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Weights to train from, such that patches can be told apart, and located, from the first step on.

        The filters are cosine waves of luma and chroma, the finer ones raised by half of what images lack of them;
        the positions are sines and cosines.
        """
        for table in (self.pos_embed, self.cls_token, self.register_tokens):
            nn.init.trunc_normal_(table, std=0.02)
        dim = self.pos_embed.shape[-1]
        rows, columns = torch.meshgrid(torch.arange(self.side), torch.arange(self.side), indexing="ij")
        positions = torch.stack([rows, columns], -1).flatten(0, 1)[..., None]
        angle = (positions * torch.logspace(0, -2, dim // 4)).flatten(1)
        self.pos_embed[0, 1:] += 0.5 * torch.cat([angle.sin(), angle.cos()], -1)

        n = torch.arange(self.patch_size)
        waves = torch.cos(torch.pi / self.patch_size * n[:, None] * (n + 0.5))
        waves = waves / waves.norm(dim=1, keepdim=True)
        opponents = torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]])
        opponents = opponents / opponents.norm(dim=1, keepdim=True)
        frequency = (n[:, None] ** 2 + n**2).sqrt()
        spread = torch.tensor([18.0, 5.0, 5.0])[:, None, None] / (1 + frequency) ** 0.8
        filters = torch.einsum("kc,ui,vj->kuvcij", opponents, waves, waves) / spread[..., None, None, None]
        order = spread.flatten().argsort(descending=True)[:dim]
        projection = self.patch_embed.proj
        assert projection.bias is not None
        projection.weight[: len(order)] = filters.flatten(0, 2)[order]
        nn.init.zeros_(projection.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] -> patch tokens [N, h * w, C]."""
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        x = self.patch_embed(images) + self._positions(grid)
        n = len(x)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(n, -1, -1)
        x = torch.cat([cls, self.register_tokens.expand(n, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, SPECIAL_TOKENS:]

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        table = self.pos_embed[:, 1:]
        if grid == (self.side, self.side):
            return table
        table = table.float().mT.unflatten(-1, (self.side, self.side))
        table = F.interpolate(table, size=grid, mode="bicubic", antialias=True)
        return table.flatten(2).mT.to(self.pos_embed.dtype)


class Aggregator(nn.Module):
    """Alternating attention over all frames (VGGT, sec. 3.2)."""

    def __init__(
        self, dim: int, depth: int, heads: int, patch_size: int, image_size: int,
        embed_depth: int, embed_heads: int, levels: tuple[int, ...],
    ) -> None:  # fmt: skip
        super().__init__()
        self.levels, self.head_dim = levels, dim // heads
        self.patch_embed = PatchEmbed(dim, embed_depth, embed_heads, patch_size, image_size)
        self.frame_blocks = nn.ModuleList([Block(dim, heads, 0.01, qk_norm=True) for _ in range(depth)])
        self.global_blocks = nn.ModuleList([Block(dim, heads, 0.01, qk_norm=True) for _ in range(depth)])
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, dim) * 1e-6)
        self.register_token = nn.Parameter(torch.randn(1, 2, REGISTERS, dim) * 1e-6)

    def init_weights(self) -> None:
        """Weights to train from, blocks aside: attention across frames starts out by looking for what looks alike."""
        self.patch_embed.init_weights()
        for block in self.global_blocks:
            query, key, _ = cast(Block, block).attn.qkv.weight.data.chunk(3)
            key.copy_(query)
        for table in (self.camera_token, self.register_token):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, F, 3, H, W] in [0, 1] -> a list of levels [B, F, 5 + h * w, 2C]."""
        B, frames = images.shape[:2]
        # 1. embed the patches, and put the camera and register tokens before them
        x = self.patch_embed(self._normalise(images.flatten(0, 1))).unflatten(0, (B, frames))
        special = torch.cat([self.camera_token, self.register_token], dim=2)
        special = torch.cat([special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)], dim=1)
        x = torch.cat([special.expand(B, -1, -1, -1).to(x.dtype), x], dim=2)
        # 2. attend within the frames, then across them
        patch = self.patch_embed.patch_size
        cos, sin = self._rope(images.shape[-2] // patch, images.shape[-1] // patch, images.device)
        everywhere = cos.repeat(frames, 1), sin.repeat(frames, 1)
        levels = []
        for i, (within, across) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            local = within(x.flatten(0, 1), (cos, sin)).unflatten(0, (B, frames))
            x = across(local.flatten(1, 2), everywhere).unflatten(1, (frames, -1))
            if i in self.levels:
                levels.append(torch.cat([local, x], dim=-1))
        return levels

    @staticmethod
    def _normalise(images: Tensor) -> Tensor:
        mean = torch.tensor(IMAGENET_MEAN, device=images.device, dtype=images.dtype).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=images.device, dtype=images.dtype).view(3, 1, 1)
        return (images - mean) / std

    def _rope(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Patch positions start at 1; special tokens sit at 0."""
        rows, columns = torch.meshgrid(
            torch.arange(1, height + 1, device=device), torch.arange(1, width + 1, device=device), indexing="ij"
        )
        positions = torch.stack([rows.flatten(), columns.flatten()], -1)
        special = positions.new_zeros(SPECIAL_TOKENS, 2)
        return rope_2d(torch.cat([special, positions]), self.head_dim)
