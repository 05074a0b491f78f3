"""Stage `autoencoder`: nano's video autoencoder, from scratch."""

from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.data.photos import Photos, moving_photos, photos_in, shipped
from gen3r.data.records import Clip, ClipSource
from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.models.video_vae import VideoVAE
from gen3r.pipeline import Gen3RPipeline
from gen3r.training import weights
from gen3r.training.sheets import pixels
from gen3r.training.stages.augment import augment_colours, clip_batch
from gen3r.training.stages.config import AutoencoderConfig
from gen3r.training.stages.stage import Batch, Row, Stage

if TYPE_CHECKING:
    from gen3r.training.run import Run

KL_WEIGHT = 2e-4
SHIFT_WEIGHT = 0.05  # of the distance from kept latents


class AutoencoderStage(Stage):
    """Mean squared and absolute error of the frames, of their gradients, and a small KL term towards N(0, 1).

    A share of the clips are moving crops of `photos`, so that latents represent real images too. Clips of the full
    length must be among the lengths: the causal autoencoder loses 3 dB on frames past the longest training clip.

    With `decoder_only` the decoder learns from the latents' means, which the denoiser generates. The latents stay as
    they are. With `keep_latents` the encoder learns too, and the distance of its posterior from the one of `before`
    takes the place of the KL term.
    """

    name = "autoencoder"
    trains = ("vae",)

    def __init__(
        self,
        components: Components,
        clips: ClipSource,
        config: AutoencoderConfig,
        photos: Photos | None = None,
        before: VideoVAE | None = None,
    ) -> None:
        super().__init__()
        self.vae, self.clips, self.config = components.vae, clips, config
        self.photos = photos or shipped("train")
        self.before = before and before.requires_grad_(False)
        self.vae.requires_grad_(True)
        if config.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)

    @classmethod
    def of(cls, run: "Run", components: Components, config: AutoencoderConfig) -> Self:
        """As `Stage.of`, with the run's photos."""
        if config.keep_latents and config.decoder_only:
            raise InputError("--decoder-only leaves the latents as they are; leave --keep-latents out")
        before = weights.load_kept(run, ("vae",)).vae if config.keep_latents else None
        clips = run.held_clips(max(config.frames))
        return cls(components, clips, config, photos_in(run.photos) if run.photos else None, before)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        frames = int(rng.choice(self.config.frames))
        batch = clip_batch(self.clips, rng, size, frames)
        for i in np.flatnonzero(rng.random(size) < self.config.photo_share):
            batch["frames"][i] = moving_photos(rng, self.photos, frames, *batch["frames"].shape[-2:])
        return {k: batch[k] for k in ("frames", "jitter")}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        video = (2 * augment_colours(batch["frames"], batch["jitter"]) - 1).transpose(1, 2)
        posterior = self.vae.encode_video(video)
        means = self.config.decoder_only or self.before is not None
        decoded = self.vae.decode_latents(posterior.mean if means else posterior.sample()).float()
        difference = decoded - video
        squared = difference.square().mean()
        gradients = sum(difference.diff(dim=d).abs().mean() for d in (-1, -2))
        loss = 10 * squared + 0.5 * difference.abs().mean() + 0.3 * gradients
        psnr = -10 * torch.log10(F.mse_loss(decoded.clamp(-1, 1), video) / 4)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        if self.before is None:
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
            return loss + KL_WEIGHT * kl, {"psnr": psnr.detach(), "kl": kl.detach()}
        with torch.no_grad():
            kept = self.before.encode(video)[0]  # `vae` has no statistics of its own yet
        shift = (mean - kept.mean).square().mean()
        spread = (logvar - kept.logvar).square().mean()
        return loss + SHIFT_WEIGHT * (shift + 0.1 * spread), {"psnr": psnr.detach(), "shift": shift.detach()}

    def sheet_rows(self, pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
        """The frames through the autoencoder."""
        video = (2 * clip.images[None].to(pipe.device) - 1).transpose(1, 2)
        return [("through the autoencoder", pixels(pipe.decode_frames(pipe.vae.encode_video(video).mean)[0]))]
