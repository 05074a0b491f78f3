"""Stage `autoencoder`: nano's video autoencoder, from scratch."""

from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.data.photos import Photos, moving_photos, photos_in, shipped
from gen3r.data.records import Clip, ClipSource
from gen3r.models.components import Components
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.sheets import pixels
from gen3r.training.stages.augment import augment_colours, clip_batch
from gen3r.training.stages.config import AutoencoderConfig
from gen3r.training.stages.stage import Batch, Row, Stage

if TYPE_CHECKING:
    from gen3r.training.run import Run

KL_WEIGHT = 2e-4


class AutoencoderStage(Stage):
    """Mean squared and absolute error of the frames, of their gradients, and a small KL term towards N(0, 1).

    A share of the clips are moving crops of `photos`, so that latents represent real images too. Clips of the full
    length must be among the lengths: the causal autoencoder loses 3 dB on frames past the longest training clip.

    With `decoder_only` the decoder learns from the latents' means, which the denoiser generates. The latents stay as
    they are.
    """

    name = "autoencoder"
    trains = ("vae",)

    def __init__(
        self, components: Components, clips: ClipSource, config: AutoencoderConfig, photos: Photos | None = None
    ) -> None:
        super().__init__()
        self.vae, self.clips, self.config = components.vae, clips, config
        self.photos = photos or shipped("train")
        self.vae.requires_grad_(True)
        if config.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)

    @classmethod
    def of(cls, run: "Run", components: Components, config: AutoencoderConfig) -> Self:
        """As `Stage.of`, with the run's photos."""
        return cls(components, run.held_clips(), config, photos_in(run.photos) if run.photos else None)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        frames = int(rng.choice(self.config.frames))
        batch = clip_batch(self.clips, rng, size, frames)
        for i in np.flatnonzero(rng.random(size) < self.config.photo_share):
            batch["frames"][i] = moving_photos(rng, self.photos, frames, *batch["frames"].shape[-2:])
        return {k: batch[k] for k in ("frames", "jitter")}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        video = (2 * augment_colours(batch["frames"], batch["jitter"]) - 1).transpose(1, 2)
        posterior = self.vae.encode_video(video)
        latents = posterior.mean if self.config.decoder_only else posterior.sample()
        decoded = self.vae.decode_latents(latents).float()
        difference = decoded - video
        squared = difference.square().mean()
        gradients = sum(difference.diff(dim=d).abs().mean() for d in (-1, -2))
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = 10 * squared + 0.5 * difference.abs().mean() + 0.3 * gradients + KL_WEIGHT * kl
        psnr = -10 * torch.log10(F.mse_loss(decoded.clamp(-1, 1), video) / 4)
        return loss, {"psnr": psnr.detach(), "kl": kl.detach()}

    def sheet_rows(self, pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
        """The frames through the autoencoder."""
        video = (2 * clip.images[None].to(pipe.device) - 1).transpose(1, 2)
        return [("through the autoencoder", pixels(pipe.decode_frames(pipe.vae.encode_video(video).mean)[0]))]
