"""Transformer blocks of VGGT: pre-norm attention and MLP, each scaled by a learned gain."""

import torch
import torch.nn.functional as F
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import Tensor, nn

ROPE_BASE = 100.0


class LayerScale(nn.Module):
    """A learned gain a channel."""

    def __init__(self, dim: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class AttentionProcessor:
    """The attention of queries, keys and values [B, heads, N, C / heads] by the backend of `set_attention_backend`."""

    _attention_backend: AttentionBackendName | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, N, C]."""
        q, k, v = (x.to(q.dtype).transpose(1, 2) for x in (q, k, v))
        return dispatch_attention_fn(q, k, v, backend=self._attention_backend).flatten(2)


class Attention(nn.Module, AttentionModuleMixin):
    """Multi-head self-attention, with normalised queries and keys where `qk_norm`."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads, self.processor = heads, AttentionProcessor()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x: [B, N, C]; rope: cosines and sines [B or 1, 1, N, C / heads]."""
        q, k, v = self._queries_keys_values(x, rope)
        return self.proj(self.processor(q, k, v))

    def scores(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, heads: int) -> Tensor:
        """What the softmax of the first heads is taken of, [B, heads, N, N]; for losses on attention."""
        q, k, _ = (t[:, :heads] for t in self._queries_keys_values(x, rope))
        return q @ k.mT / q.shape[-1] ** 0.5

    def _queries_keys_values(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Each [B, heads, N, C / heads]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        return q, k, v


class Block(nn.Module):
    """x + gain * attention(norm(x)), then the same with the MLP."""

    def __init__(self, dim: int, heads: int, gain: float, qk_norm: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.ls1 = LayerScale(dim, gain)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 4 * dim, dim)
        self.ls2 = LayerScale(dim, gain)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), rope))
        return x + self.ls2(self.mlp(self.norm2(x)))


def rope_2d(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, head_dim] for positions [N, 2] (row, column): first half by row, second by column."""
    half = head_dim // 2
    frequency = ROPE_BASE ** -(torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half)
    angle = positions[:, :, None].float() * frequency
    angle = torch.cat([angle, angle], -1).flatten(1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, heads, N, head_dim], the rotate-half form within each half of the head."""
    a, b, c, d = x.chunk(4, dim=-1)
    return (x * cos + torch.cat([-b, a, -d, c], -1) * sin).to(x.dtype)
