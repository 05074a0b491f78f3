"""Stage `autoencoder`: nano's own video autoencoder, from scratch."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen3r.data.records import ClipSource
from gen3r.data.synthetic.photos import moving_photos
from gen3r.models.video_vae import VideoVAE
from gen3r.training.stages.augment import augment_colours, clip_batch
from gen3r.training.stages.stage import Batch, Stage


class AutoencoderStage(Stage):
    """Mean squared and absolute error of the frames, of their edges, and a small KL term towards N(0, 1).

    A fifth of the clips are moving crops of photographs, so that the latents also hold what real pictures hold. Clips
    of the full length must be among them: on frames past the longest clip that it was trained on, the causal
    autoencoder loses 3 dB.

    decoder_only: the decoder alone is trained, on the latents' means, which is what is denoised. Latents stay what they
        are, and so does all that was trained on them.
    """

    name = "autoencoder"

    def __init__(
        self,
        vae: VideoVAE,
        clips: ClipSource,
        frames: tuple[int, ...] = (9, 9, 9, 17),
        photos: float = 0.2,
        decoder_only: bool = False,
    ) -> None:
        super().__init__()
        self.vae, self.clips, self.frames, self.photos = vae, clips, frames, photos
        self.kl_weight, self.decoder_only = 1e-3, decoder_only
        vae.requires_grad_(True)
        if decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        frames = int(rng.choice(self.frames))
        batch = clip_batch(self.clips, rng, size, frames)
        for i in np.flatnonzero(rng.random(size) < self.photos):
            batch["frames"][i] = moving_photos(rng, frames, *batch["frames"].shape[-2:])
        return {k: batch[k] for k in ("frames", "jitter")}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        video = (2 * augment_colours(batch["frames"], batch["jitter"]) - 1).transpose(1, 2)
        posterior = self.vae.encode_video(video)
        decoded = self.vae.decode_latents(posterior.mean if self.decoder_only else posterior.sample()).float()
        difference = decoded - video
        squared = difference.square().mean()
        edges = sum(difference.diff(dim=d).abs().mean() for d in (-1, -2))
        kl = (
            0.5
            * (posterior.mean.float().square() + posterior.logvar.float().exp() - 1 - posterior.logvar.float()).mean()
        )
        loss = 10 * squared + 0.5 * difference.abs().mean() + 0.3 * edges + self.kl_weight * kl
        psnr = -10 * torch.log10(F.mse_loss(decoded.clamp(-1, 1), video) / 4)
        return loss, {"psnr": psnr.detach(), "kl": kl.detach()}
