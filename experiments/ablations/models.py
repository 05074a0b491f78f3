"""Variants of the transformer and the geometry adapter."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor, nn

from gen3r.models.adapter import Coder, GeometryAdapter, Stream, TimeResample
from gen3r.models.transformer import Gen3RTransformer


class PlainColumns(Gen3RTransformer):
    """Wan's own RoPE: the columns of G continue those of A."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        sizes = (self.config[name] for name in ("attention_head_dim", "patch_size", "rope_max_seq_len"))
        self.rope = WanRotaryPosEmbed(*sizes)


class OneHalf(PlainColumns):
    """The width of the tokens' grid is that of one half, and so is that of the rays."""

    def embed_cameras(self, rays: Tensor) -> Tensor:
        return super().embed_cameras(rays.chunk(2, dim=-1)[0])


class StackedChannels(OneHalf):
    """A and G are concatenated along channels. The transformer has half the tokens.

    The configuration has the channels of one half, as the pipeline expects.
    """

    def __init__(self, in_channels: int = 36, out_channels: int = 16, **config: Any) -> None:
        super().__init__(in_channels=2 * in_channels, out_channels=2 * out_channels, **config)
        self.register_to_config(in_channels=in_channels, out_channels=out_channels)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        image_embeds: Tensor,
        control: Tensor,
        rays: Tensor | None = None,
        camera_embeds: Tensor | None = None,
    ) -> Tensor:
        """As `Gen3RTransformer.forward`."""
        latents, control = (torch.cat(x.chunk(2, dim=-1), dim=1) for x in (latents, control))
        cameras = self.embed_cameras(rays) if rays is not None else camera_embeds
        velocity = super().forward(latents, timestep, prompt_embeds, image_embeds, control, camera_embeds=cameras)
        return torch.cat(velocity.chunk(2, dim=1), dim=-1)


class AppearanceOnly(OneHalf):
    """A is denoised by itself, with half the tokens. The velocity of G is zero; geometry comes from the frames."""

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        image_embeds: Tensor,
        control: Tensor,
        rays: Tensor | None = None,
        camera_embeds: Tensor | None = None,
    ) -> Tensor:
        """As `Gen3RTransformer.forward`."""
        latents, control = (x.chunk(2, dim=-1)[0] for x in (latents, control))
        cameras = self.embed_cameras(rays) if rays is not None else camera_embeds
        velocity = super().forward(latents, timestep, prompt_embeds, image_embeds, control, camera_embeds=cameras)
        return F.pad(velocity, (0, velocity.shape[-1]))


class ShallowAdapter(GeometryAdapter):
    """One residual block per stage of the encoder instead of two, and two of the decoder instead of three."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        _limit_blocks(self.encoder, 1)
        _limit_blocks(self.decoder, 2)


class LatentPerFrameAdapter(GeometryAdapter):
    """Time is not compressed: every frame has a latent."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        for coder in (self.encoder, self.decoder):
            for i, block in enumerate(coder.blocks):
                if isinstance(block, TimeResample):
                    coder.blocks[i] = TimeResample(block.dim, block.mode.replace("3d", "2d"))


class LinearAdapter(GeometryAdapter):
    """One matrix per pixel between four frames and a latent, in place of all stages: no norms, no activations."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        channels, latent = self.conv_tokens_in.out_channels, self.config["latent_channels"]
        self.encoder = LinearEncoder(channels, 2 * latent)
        self.decoder = LinearDecoder(latent, channels)

    def decode(self, latents: Tensor) -> Tensor:
        """As `GeometryAdapter.decode`."""
        return super().decode(latents)[:, :, 3:]  # the first latent stands for one frame


class LinearEncoder(nn.Module):
    """Four frames of tokens on the latent grid -> moments. A single frame is repeated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (4, 1, 1), stride=(4, 1, 1))

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return self.conv(x.expand(-1, -1, 4, -1, -1))


class LinearDecoder(nn.Module):
    """Latents -> four frames of token channels on the latent grid."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(inputs, outputs, (4, 1, 1), stride=(4, 1, 1))

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return self.conv(x)


def _limit_blocks(coder: Any, limit: int) -> None:
    """Keeps the first `limit` residual blocks of every stage of an encoder or decoder."""
    assert isinstance(coder, Coder)
    kept, run = [], 0
    for block in coder.blocks:  # pyright: ignore[reportGeneralTypeIssues]
        run = run + 1 if isinstance(block, WanResidualBlock) else 0
        if run <= limit:
            kept.append(block)
    coder.blocks = nn.ModuleList(kept)
