"""Stage `adapter`: the geometry adapter between a frozen VGGT and a frozen video autoencoder (Gen3R, sec. 3.2)."""

import numpy as np
import torch
from torch import Tensor

from gen3r.data.shards import ClipShards
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.precision import exact_products
from gen3r.models.tokens import pack_tokens, packed_tokens, unpack_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE
from gen3r.training.batches import augment_colours, clip_batch
from gen3r.training.loop import Batch, Stage
from gen3r.training.losses import adaptive_kl_weight, camera_loss, relative_depth_error, token_loss


class AdapterStage(Stage):
    """Token reconstruction, agreement of the heads on reconstructed and original tokens, and KL(q_G || q_A)."""

    name = "adapter"

    def __init__(
        self, adapter: GeometryAdapter, vggt: VGGT, vae: VideoVAE, clips: ClipShards, dense_frames: int = 2
    ) -> None:
        super().__init__()
        self.adapter, self.vggt, self.vae, self.clips = adapter, vggt, vae, clips
        self.dense_frames = dense_frames
        vggt.requires_grad_(False)
        vae.requires_grad_(False)
        adapter.requires_grad_(True)

    @torch.no_grad()
    def fit_to_tokens(self, count: int) -> None:
        """Starts the adapter such that it sees, and makes, tokens of the mean and spread of the first clips'.

        VGGT's channels differ a hundredfold in size: learning that alone would take hundreds of steps.
        """
        packed = []
        for number in range(min(count, len(self.clips))):
            packed.append(packed_tokens(self.vggt, self.clips[number].images[None])[0].flatten(1))
        tokens = torch.cat(packed, dim=1)
        mean, std = tokens.mean(1), tokens.std(1).clamp_min(1e-3)
        into, out = self.adapter.conv_tokens_in, self.adapter.conv_tokens_out
        assert into.bias is not None
        assert out.bias is not None
        into.weight /= std[:, None, None]
        into.bias -= (into.weight * mean[:, None, None]).sum((1, 2, 3))
        out.weight *= std[:, None, None, None]
        out.bias.copy_(mean)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        batch = clip_batch(self.clips, rng, size, frames=17)
        shown = torch.from_numpy(np.sort(rng.choice(17, self.dense_frames, replace=False)))
        return {"frames": batch["frames"], "jitter": batch["jitter"], "shown": shown}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = augment_colours(batch["frames"], batch["jitter"])
        height, width = images.shape[-2:]
        patch = self.vggt.config["patch_size"]
        grid = (height // patch, width // patch)
        with torch.no_grad():
            levels = self.vggt.tokens(images)
            tokens = pack_tokens(levels, grid)
            appearance = self.vae.encode_video((2 * images - 1).transpose(1, 2))
        posterior = self.adapter.encode(tokens)
        decoded = self.adapter.decode(posterior.sample())
        camera_channels = tokens.shape[1] // (len(levels) + 1)
        reconstruction = token_loss(decoded, tokens, camera_channels)
        camera, depth, points = self._head_losses(unpack_tokens(decoded), levels, batch["shown"], height, width)
        total = reconstruction + 10 * camera + 2 * depth + points
        kl = posterior.kl_to(appearance).mean()
        loss = total + adaptive_kl_weight(kl, total) * kl
        report = {"tokens": reconstruction, "camera": camera, "depth": depth, "points": points, "kl": kl}
        return loss, {k: v.detach() for k, v in report.items()}

    def _head_losses(
        self, decoded: list[Tensor], levels: list[Tensor], shown: Tensor, height: int, width: int
    ) -> tuple[Tensor, ...]:
        """Errors of the heads run on decoded tokens against the same heads on the originals, on some frames."""
        with exact_products(levels[0].device):
            truth = self.vggt.camera([x.float() for x in levels])[-1].detach()
            camera = camera_loss(self.vggt.camera([x.float() for x in decoded]), truth)
        with torch.no_grad():
            original = self.vggt.dense([x[:, shown] for x in levels], height, width)
        ours = self.vggt.dense([x[:, shown] for x in decoded], height, width)
        depth = relative_depth_error(ours.depth, original.depth).mean()
        scale = original.points.norm(dim=-1).mean().clamp_min(1e-3)
        points = ((ours.points - original.points).norm(dim=-1) / scale).clamp_max(10).mean()
        return camera, depth, points
