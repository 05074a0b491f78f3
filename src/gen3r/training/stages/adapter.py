"""Stage `adapter`: the geometry adapter between a frozen VGGT and a frozen video autoencoder (Gen3R, sec. 3.2)."""

import math
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen3r.cameras.conventions import decode_pose
from gen3r.data.records import ClipSource
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.gaussian import DiagonalGaussian, statistics
from gen3r.models.precision import exact_products
from gen3r.models.tokens import pack_tokens, packed_tokens, unpack_tokens
from gen3r.models.vggt import VGGT
from gen3r.models.video_vae import VideoVAE
from gen3r.training.stages.adapter_init import start_from_components
from gen3r.training.stages.augment import augment_colours, clip_batch
from gen3r.training.stages.losses import (
    KLWeight,
    baseline_error,
    camera_loss,
    kl_weight,
    relative_depth_error,
    token_loss,
)
from gen3r.training.stages.stage import Batch, Stage

SAMPLED_CLIPS = 16
KEEPING = 4.0  # weight of a shift of the latents


class AdapterStage(Stage):
    """Token reconstruction, agreement of the heads on reconstructed and original tokens, and KL(q_G || q_A).

    What tells one camera from another is 3 % of a camera token's energy. So tokens are compared with the mean and
    spread of every channel taken out, and the convolutions next to them take steps in those units too.
    `baseline_error` joins the camera loss: without it, the directions between neighbouring frames drown.

    as_published: the paper's losses instead (SPEC, section 7): tokens as they are, squared errors of depth and points,
        no baselines; and clips as they were filmed, in their own colours.
    before: an older VGGT and adapter, with its statistics, whose latents are to stay as they are, though VGGT is
        another one now: a transformer that was trained on them then needs no training.
    """

    name = "adapter"

    def __init__(
        self,
        adapter: GeometryAdapter,
        vggt: VGGT,
        vae: VideoVAE,
        clips: ClipSource,
        frames: tuple[int, ...] = (5, 9, 17),
        depth_weight: float = 2.0,
        baseline_weight: float = 0.5,
        as_published: bool = False,
        kl: KLWeight = "adaptive",
        before: tuple[VGGT, GeometryAdapter] | None = None,
    ) -> None:
        super().__init__()
        self.adapter, self.vggt, self.vae, self.clips, self.frames = adapter, vggt, vae, clips, frames
        self.depth_weight, self.baseline_weight = depth_weight, 0.0 if as_published else baseline_weight
        self.as_published = as_published
        self.kl: KLWeight = kl
        self.before = nn.ModuleList(before or ()).requires_grad_(False)
        vggt.requires_grad_(False)
        vae.requires_grad_(False)
        adapter.requires_grad_(True)
        self.token_mean: Tensor
        self.token_std: Tensor
        if as_published:
            self.register_buffer("token_mean", torch.zeros(()), persistent=False)
            self.register_buffer("token_std", torch.ones(()), persistent=False)
            return
        tokens = self._sample_tokens()
        self.register_buffer("token_mean", tokens.mean(1)[:, None, None, None], persistent=False)
        self.register_buffer("token_std", tokens.std(1).clamp_min(1e-3)[:, None, None, None], persistent=False)
        adapter.conv_tokens_in.weight.step_scale = 1 / self.token_std[..., 0]  # pyright: ignore[reportAttributeAccessIssue]
        adapter.conv_tokens_out.weight.step_scale = self.token_std  # pyright: ignore[reportAttributeAccessIssue]

    def start_afresh(self) -> None:
        """Sets the adapter's weights from the tokens of some clips."""
        start_from_components(self.adapter, self._sample_tokens())

    @torch.no_grad()
    def _sample_tokens(self) -> Tensor:
        """Packed tokens [C, N] of the first clips."""
        clips = range(min(SAMPLED_CLIPS, len(self.clips)))
        return torch.cat([packed_tokens(self.vggt, self.clips[n].images[None])[0].flatten(1) for n in clips], dim=1)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """`size` frames in all, or the next clip that fits: short clips show more scenes a step."""
        frames = int(rng.choice(self.frames))
        shuffled = not self.as_published and bool(rng.random() < 0.5)
        backwards = 0.0 if self.as_published else 0.5
        recoloured = 0.0 if self.as_published or self.before else 0.5  # the VGGT before may not know other skies
        batch = clip_batch(self.clips, rng, max(1, size // frames), frames, shuffled, backwards, recoloured=recoloured)
        shown = torch.from_numpy(np.sort(rng.choice(frames, max(1, frames // 6), replace=False)))
        return {"frames": batch["frames"], "jitter": batch["jitter"], "shown": shown}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = augment_colours(batch["frames"], batch["jitter"], strength=0.0 if self.as_published else 0.2)
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
        mean, std = self.token_mean, self.token_std
        reconstruction = token_loss((decoded - mean) / std, (tokens - mean) / std, camera_channels)
        camera, baseline, depth, points = self._head_losses(
            unpack_tokens(decoded), levels, batch["shown"], height, width
        )
        total = reconstruction + 10 * camera + self.baseline_weight * baseline + self.depth_weight * depth + points
        kl = posterior.kl_to(_as_long(appearance, posterior.mean.shape[2])).mean()
        loss = total + kl_weight(self.kl, kl, total, self.progress) * kl
        report = {
            "tokens": reconstruction, "camera": camera, "baseline": baseline, "depth": depth, "points": points,
            "kl": kl,
        }  # fmt: skip
        if self.before:
            report["shift"] = self._shift(posterior.mean, images)
            loss = loss + KEEPING * report["shift"]
        return loss, {k: v.detach() for k, v in report.items()}

    def _shift(self, latents: Tensor, images: Tensor) -> Tensor:
        """Mean squared distance of latents from those that were made of the images before, in units of their spread."""
        vggt, adapter = cast(VGGT, self.before[0]), cast(GeometryAdapter, self.before[1])
        with torch.no_grad():
            target = adapter.encode(packed_tokens(vggt, images)).mean
        mean, std = statistics(adapter.config, latents)
        return F.mse_loss((latents - mean) / std, target)

    def _head_losses(
        self, decoded: list[Tensor], levels: list[Tensor], shown: Tensor, height: int, width: int
    ) -> tuple[Tensor, ...]:
        """Errors of the heads run on decoded tokens against the same heads on the originals, on some frames."""
        with exact_products(levels[0].device):
            truth = self.vggt.camera([x.float() for x in levels])[-1].detach()
            pose_enc = self.vggt.camera([x.float() for x in decoded])
            camera = camera_loss(pose_enc, truth)
            poses, true_poses = (decode_pose(x, height, width)[0] for x in (pose_enc, truth))
            baseline = baseline_error(poses, true_poses[None])
        with torch.no_grad():
            original = self.vggt.dense([x[:, shown] for x in levels], height, width)
        ours = self.vggt.dense([x[:, shown] for x in decoded], height, width)
        if self.as_published:
            depth = F.mse_loss(ours.depth, original.depth)
            return camera, baseline, depth, F.mse_loss(ours.points, original.points)
        depth = relative_depth_error(ours.depth, original.depth).mean()
        scale = original.points.norm(dim=-1).mean().clamp_min(1e-3)
        points = ((ours.points - original.points).norm(dim=-1) / scale).clamp_max(10).mean()
        return camera, baseline, depth, points


def _as_long(gaussian: DiagonalGaussian, latents: int) -> DiagonalGaussian:
    """The appearance posterior [B, 16, f, h, w] once for each of the `latents` of an adapter that compresses less."""
    pace = (gaussian.mean.shape[2] - 1) / max(latents - 1, 1)
    index = [math.ceil(pace * i) for i in range(latents)]
    return DiagonalGaussian(gaussian.mean[:, :, index], gaussian.logvar[:, :, index])
