"""The geometry adapter: a causal 3-D convolutional VAE over VGGT's tokens (Gen3R, sec. 3.2)."""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from gen3r.models.gaussian import DiagonalGaussian, statistics
from gen3r.models.torch_attention import TorchAttention

CACHED_FRAMES = 2
HALVED = (False, True, True)  # whether the encoder halves time after each stage but the last


class Stream:
    """The frames that causal convolutions keep from one chunk of time to the next."""

    def __init__(self, module: nn.Module) -> None:
        self.cache: list[Tensor | None] = [None] * sum(isinstance(m, WanCausalConv3d) for m in module.modules())
        self.index = [0]

    def through(self, block: nn.Module, x: Tensor) -> Tensor:
        """A block of diffusers' that convolves. By keywords, since hooks of offloading copy other lists."""
        return block(x, feat_cache=self.cache, feat_idx=self.index)

    def convolve(self, conv: WanCausalConv3d, x: Tensor) -> Tensor:
        """`conv` of the kept frames and a chunk. The last two frames are kept for the next one."""
        i = self.index[0]
        before = self.cache[i]
        last = x[:, :, -CACHED_FRAMES:]
        if last.shape[2] < CACHED_FRAMES and before is not None:
            last = torch.cat([before[:, :, -1:], last], dim=2)
        out = conv(x, before)
        self.cache[i] = last
        self.index[0] += 1
        return out


class TimeResample(WanResample):
    """Wan's resampling without the change of spatial size: time halves or doubles, a 3x3 convolution follows."""

    def __init__(self, dim: int, mode: str) -> None:
        super().__init__(dim, mode)
        self.resample = nn.Sequential(nn.Conv2d(dim, dim // 2 if mode.startswith("up") else dim, 3, padding=1))


class Middle(nn.Module):
    """Residual block, attention within each frame, residual block."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([WanResidualBlock(dim, dim), WanResidualBlock(dim, dim)])
        self.attention = WanAttentionBlock(dim)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = stream.through(self.resnets[0], x)
        return stream.through(self.resnets[1], self.attention(x))


class Coder(nn.Module):
    """The first and last layers of encoder and decoder: a causal convolution; norm, SiLU and causal convolution."""

    def _finish(self, inputs: int, first: int, last: int, outputs: int) -> None:
        self.conv_in = WanCausalConv3d(inputs, first, 3, padding=1)
        self.norm_out = WanRMS_norm(last, images=False)
        self.conv_out = WanCausalConv3d(last, outputs, 3, padding=1)

    def _out(self, x: Tensor, stream: Stream) -> Tensor:
        return stream.convolve(self.conv_out, F.silu(self.norm_out(x)))


class Encoder(Coder):
    """Tokens on the latent grid -> moments. Time is halved after the second and the third stage."""

    def __init__(self, inputs: int, dim: int, multipliers: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        dims = [dim * m for m in (multipliers[0], *multipliers)]
        blocks: list[nn.Module] = []
        for i, (wide, narrow) in enumerate(zip(dims, dims[1:], strict=False)):
            blocks += [WanResidualBlock(wide, narrow), WanResidualBlock(narrow, narrow)]
            if i < len(HALVED):
                blocks.append(TimeResample(narrow, "downsample3d" if HALVED[i] else "downsample2d"))
        self.blocks = nn.ModuleList(blocks)
        self.middle = Middle(dims[-1])
        self._finish(inputs, dims[0], dims[-1], outputs)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        stream.index = [0]
        x = stream.convolve(self.conv_in, x)
        for block in self.blocks:
            x = stream.through(block, x)
        return self._out(self.middle(x, stream), stream)


class Decoder(Coder):
    """Latents -> token channels on the latent grid. The stages are the encoder's in reverse, one block longer."""

    def __init__(self, inputs: int, dim: int, multipliers: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        dims = [dim * m for m in (multipliers[-1], *multipliers[::-1])]
        blocks: list[nn.Module] = []
        for i, (before, after) in enumerate(zip(dims, dims[1:], strict=False)):
            start = before if i == 0 else before // 2
            blocks += [WanResidualBlock(start, after), *(WanResidualBlock(after, after) for _ in range(2))]
            if i < len(HALVED):
                blocks.append(TimeResample(after, "upsample3d" if HALVED[::-1][i] else "upsample2d"))
        self.middle = Middle(dims[0])
        self.blocks = nn.ModuleList(blocks)
        self._finish(inputs, dims[0], dims[-1], outputs)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        stream.index = [0]
        x = self.middle(stream.convolve(self.conv_in, x), stream)
        for block in self.blocks:
            x = stream.through(block, x)
        return self._out(x, stream)


class GeometryAdapter(TorchAttention, ModelMixin, ConfigMixin):
    """Packed tokens [B, C, F, h, w] <-> geometry latents [B, 16, 1 + (F - 1) / 4, 7h / 4, 7w / 4].

    The default sizes are the published ones (318 M parameters). Time is streamed in chunks of 1, 4, 4, ... frames, so
    memory does not grow with the clip beyond its input and output.
    """

    _group_offload_block_modules = [
        "conv_tokens_in", "encoder", "quant_conv", "post_quant_conv", "decoder", "conv_tokens_out",
    ]  # fmt: skip
    _skip_keys = ["feat_cache", "feat_idx"]  # lists that hooks must not copy

    @register_to_config
    def __init__(
        self,
        token_channels: int = 10240,
        hidden_dim: int = 128,
        multipliers: tuple[int, ...] = (4, 2, 1, 1),
        latent_channels: int = 16,
        resample_scale: int = 10,
        latents_mean: tuple[float, ...] = (0.0,) * 16,
        latents_std: tuple[float, ...] = (1.0,) * 16,
    ) -> None:
        super().__init__()
        between = token_channels // resample_scale
        self.conv_tokens_in = nn.Conv2d(token_channels, between, 3, padding=1)
        self.encoder = Encoder(between, hidden_dim, multipliers, 2 * latent_channels)
        self.quant_conv = nn.Conv3d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv3d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(latent_channels, hidden_dim, multipliers, between)
        self.conv_tokens_out = nn.Conv2d(between, token_channels, 3, stride=2)

    @apply_forward_hook
    def encode(self, tokens: Tensor) -> DiagonalGaussian:
        """The posterior of packed tokens, whose mean is normalised by the channel statistics.

        Raises:
            ValueError: the number of frames is not 4k + 1, or the grid does not scale by 7 / 4.
        """
        frames, h, w = tokens.shape[2:]
        if (frames - 1) % 4 or (7 * h) % 4 or (7 * w) % 4:
            raise ValueError(f"token clips need 4k + 1 frames and a grid of multiples of 4, not {frames} x {h} x {w}")
        stream = Stream(self.encoder)
        starts = [0, *range(1, frames, 4)]
        chunks = [self.encoder(self._tokens_in(tokens[:, :, a : a + (4 if a else 1)]), stream) for a in starts]
        mean, logvar = self.quant_conv(torch.cat(chunks, dim=2)).chunk(2, dim=1)
        m, s = statistics(self.config, mean)
        return DiagonalGaussian((mean - m) / s, logvar)

    @apply_forward_hook
    def decode(self, latents: Tensor) -> Tensor:
        """Packed tokens of normalised latents. The first latent becomes one frame, the others four each."""
        m, s = statistics(self.config, latents)
        hidden = self.post_quant_conv(latents * s + m)
        stream = Stream(self.decoder)
        return torch.cat([self._tokens_out(self.decoder(x, stream)) for x in hidden.split(1, dim=2)], dim=2)

    def _tokens_in(self, tokens: Tensor) -> Tensor:
        """Nearest-exact resize of the token grid by 7 / 4, then the convolution to fewer channels."""
        h, w = tokens.shape[-2:]
        flat = F.interpolate(_as_images(tokens), size=(7 * h // 4, 7 * w // 4), mode="nearest-exact")
        return _as_clip(self.conv_tokens_in(flat), len(tokens))

    def _tokens_out(self, hidden: Tensor) -> Tensor:
        """Resize from 7 / 4 to twice the token grid, then the strided convolution back to the token grid."""
        h, w = (8 * n // 7 for n in hidden.shape[-2:])
        flat = F.interpolate(_as_images(hidden), size=(h, w), mode="nearest-exact")
        return _as_clip(self.conv_tokens_out(F.pad(flat, (0, 1, 0, 1))), len(hidden))


def _as_images(clip: Tensor) -> Tensor:
    return clip.transpose(1, 2).flatten(0, 1)


def _as_clip(images: Tensor, batch: int) -> Tensor:
    return images.unflatten(0, (batch, -1)).transpose(1, 2)
