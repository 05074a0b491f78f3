"""Wan 2.1's causal video autoencoder, with the normalisation of latents that Gen3R's models share."""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from gen3r.models.gaussian import DiagonalGaussian, statistics
from gen3r.models.torch_attention import TorchAttention


class VideoVAE(TorchAttention, AutoencoderKLWan):
    """diffusers' `AutoencoderKLWan` on normalised latents.

    Frames come as [B, 3, F, H, W] in [-1, 1] with F = 4k + 1; latents are [B, 16, 1 + (F - 1) / 4, H / 8, W / 8].
    """

    @apply_forward_hook
    def encode_video(self, video: Tensor) -> DiagonalGaussian:
        """The posterior of `video`. Its mean is normalised by the latent statistics; its log-variance is as encoded."""
        moments = self.encode(video)[0]
        mean, std = statistics(self.config, moments.mean)
        return DiagonalGaussian((moments.mean - mean) / std, moments.logvar)

    @apply_forward_hook
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Frames [B, 3, F, H, W] of normalised latents. Values may overshoot [-1, 1] a little, but not with tiling."""
        mean, std = statistics(self.config, latents)
        return self.decode(latents * std + mean, return_dict=False)[0]

    def _decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """diffusers' `_decode` without its clamp: in training, frames that overshoot keep a gradient."""
        if self.use_tiling:
            return super()._decode(z, return_dict)  # pyright: ignore[reportReturnType]
        hidden = self.post_quant_conv(z)
        self.clear_cache()
        chunks = [
            self.decoder(hidden[:, :, i : i + 1], feat_cache=self._feat_map, feat_idx=[0], first_chunk=i == 0)
            for i in range(hidden.shape[2])
        ]
        self.clear_cache()
        video = torch.cat(chunks, dim=2)
        video = video if self.config["patch_size"] is None else unpatchify(video, self.config["patch_size"])
        return DecoderOutput(video) if return_dict else (video,)
