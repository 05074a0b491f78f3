"""Stage `adapter`: the geometry adapter between a frozen VGGT and a frozen video autoencoder (Gen3R, sec. 3.2)."""

from functools import cache
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen3r.cameras.conventions import decode_pose
from gen3r.data.records import Clip, ClipSource
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.components import Components
from gen3r.models.gaussian import DiagonalGaussian, statistics
from gen3r.models.precision import exact_products
from gen3r.models.tokens import pack_tokens, packed_tokens, unpack_tokens
from gen3r.models.vggt import VGGT
from gen3r.pipeline import Gen3RPipeline
from gen3r.training import weights
from gen3r.training.measurements import channel_statistics, measured_once, sample_tokens
from gen3r.training.sheets import depth_colours
from gen3r.training.stages.adapter_init import start_from_components
from gen3r.training.stages.augment import augment_colours, clip_batch
from gen3r.training.stages.config import AdapterConfig
from gen3r.training.stages.losses import (
    adaptive_kl_weight,
    camera_loss,
    relative_depth_error,
    relative_translation_loss,
    token_loss,
)
from gen3r.training.stages.stage import Batch, Row, Stage

if TYPE_CHECKING:
    from gen3r.training.run import Run

DRAWS = 1 << 20  # clips that may be drawn from datasets
SHIFT_WEIGHT = 4.0  # of the distance from kept latents


class AdapterStage(Stage):
    """Token reconstruction, agreement of VGGT's heads on reconstructed and original tokens, and KL(q_G || q_A).

    What distinguishes cameras is 3 % of the energy of a camera token. So tokens are compared after normalisation of
    every channel, and the convolutions next to them take steps in those units. `prepare` sets the normalisation.
    `relative_translation_loss` joins the camera loss, because directions between neighbouring frames are weak in it.

    before: an older VGGT and adapter, whose latents are kept although VGGT has changed (AdapterConfig.keep_latents).
    """

    name = "adapter"
    trains = ("geo_adapter",)
    needs = ("vae", "vggt")

    def __init__(
        self,
        components: Components,
        clips: ClipSource,
        config: AdapterConfig,
        before: tuple[VGGT, GeometryAdapter] | None = None,
    ) -> None:
        super().__init__()
        self.geo_adapter, self.vggt, self.vae = components.geo_adapter, components.vggt, components.vae
        self.clips, self.config = clips, config
        self.before = nn.ModuleList(before or ()).requires_grad_(False)
        self.vggt.requires_grad_(False)
        self.vae.requires_grad_(False)
        self.geo_adapter.requires_grad_(True)
        self.token_mean: Tensor
        self.token_std: Tensor
        self.register_buffer("token_mean", torch.zeros(()), persistent=False)
        self.register_buffer("token_std", torch.ones(()), persistent=False)

    @classmethod
    def of(cls, run: "Run", components: Components, config: AdapterConfig) -> Self:
        """As `Stage.of`."""
        before = None
        if config.keep_latents:
            model = weights.load_kept(run, ("vggt", "geo_adapter"))
            before = (model.vggt, model.geo_adapter)
        return cls(components, run.held_clips(max(config.frames), DRAWS), config, before)

    def prepare(self, run: "Run") -> None:
        """Initialises a new adapter from VGGT's tokens, and measures their normalisation once for the run."""
        vggt = cast(nn.Module, self.vggt).to(run.device)
        tokens = cache(lambda: sample_tokens(cast(VGGT, vggt), self.clips))
        if weights.starts_anew(run, self.name):
            self.initialise(tokens())
        if not self.config.as_published:
            path = run.folder / self.name / "tokens.json"
            found = measured_once(path, [self.vggt], lambda: channel_statistics(tokens()))
            self.normalise_tokens(**found)

    def initialise(self, tokens: Tensor) -> None:
        """Sets the adapter's weights from a sample of packed tokens [C, N]."""
        start_from_components(self.geo_adapter, tokens)

    def normalise_tokens(self, mean: list[float], std: list[float]) -> None:
        """Compares tokens, and scales the steps of the convolutions next to them, in units of `std`, per channel."""
        self.token_mean, self.token_std = (torch.tensor(x)[:, None, None, None] for x in (mean, std))
        self.geo_adapter.conv_tokens_in.weight.step_scale = 1 / self.token_std[..., 0]  # pyright: ignore[reportAttributeAccessIssue]
        self.geo_adapter.conv_tokens_out.weight.step_scale = self.token_std  # pyright: ignore[reportAttributeAccessIssue]

    def finish(self, run: "Run") -> None:
        """Keeps the statistics of the latents with the latents."""
        if self.before:
            config = cast(GeometryAdapter, self.before[1]).config
            weights.settle_statistics(run, "geo_adapter", config)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """`size` frames in all, or the next clip that fits: short clips show more scenes per step."""
        augmented = not self.config.as_published
        frames = int(rng.choice(self.config.frames))
        any_order = augmented and bool(rng.random() < 0.5)
        backwards = 0.5 if augmented else 0.0
        batch = clip_batch(self.clips, rng, max(1, size // frames), frames, any_order, backwards)
        dense = torch.from_numpy(np.sort(rng.choice(frames, max(1, frames // 6), replace=False)))
        return {"frames": batch["frames"], "jitter": batch["jitter"], "dense_frames": dense}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        strength = 0.0 if self.config.as_published else 0.2
        images = augment_colours(batch["frames"], batch["jitter"], strength)
        height, width = images.shape[-2:]
        patch = self.vggt.config["patch_size"]
        with torch.no_grad():
            levels = self.vggt.tokens(images)
            tokens = pack_tokens(levels, (height // patch, width // patch))
        posterior = self.geo_adapter.encode(tokens)
        decoded = self.geo_adapter.decode(posterior.sample())
        camera_channels = tokens.shape[1] // (len(levels) + 1)
        normalised, target = ((x - self.token_mean) / self.token_std for x in (decoded, tokens))
        reconstruction = token_loss(normalised, target, camera_channels)
        camera, translation, depth, points = self._head_losses(
            unpack_tokens(decoded), levels, batch["dense_frames"], height, width
        )
        translation_weight = 0.0 if self.config.as_published else self.config.translation_weight
        total = reconstruction + 10 * camera + translation_weight * translation
        total = total + self.config.depth_weight * depth + points
        kl = self.alignment(posterior, images)
        loss = total + self.alignment_weight(kl, total) * kl
        report = {
            "tokens": reconstruction, "camera": camera, "translation": translation, "depth": depth, "points": points,
            "kl": kl,
        }  # fmt: skip
        if self.before:
            report["shift"] = self._shift(posterior.mean, images)
            loss = loss + SHIFT_WEIGHT * report["shift"]
        return loss, {k: v.detach() for k, v in report.items()}

    def alignment(self, posterior: DiagonalGaussian, images: Tensor) -> Tensor:
        """KL of the geometry posterior from the autoencoder's posterior of the images [B, F, 3, H, W]."""
        with torch.no_grad():
            appearance = self.vae.encode_video((2 * images - 1).transpose(1, 2))
        return posterior.kl_to(appearance).mean()

    def alignment_weight(self, kl: Tensor, reconstruction: Tensor) -> float:
        """The weight of the alignment in the loss."""
        return adaptive_kl_weight(kl, reconstruction)

    def _shift(self, latents: Tensor, images: Tensor) -> Tensor:
        """Mean squared distance of latents from those of the model before, in units of their standard deviation."""
        vggt, adapter = cast(VGGT, self.before[0]), cast(GeometryAdapter, self.before[1])
        with torch.no_grad():
            target = adapter.encode(packed_tokens(vggt, images)).mean
        mean, std = statistics(adapter.config, latents)
        return F.mse_loss((latents - mean) / std, target)

    def _head_losses(
        self, decoded: list[Tensor], levels: list[Tensor], dense_frames: Tensor, height: int, width: int
    ) -> tuple[Tensor, ...]:
        """Errors of the heads on decoded tokens from the same heads on the originals; dense ones for some frames."""
        with exact_products(levels[0].device):
            truth = self.vggt.camera(levels)[-1].detach()
            pose_enc = self.vggt.camera(decoded)
            camera = camera_loss(pose_enc, truth)
            poses, true_poses = (decode_pose(x, height, width)[0] for x in (pose_enc, truth))
            translation = relative_translation_loss(poses, true_poses[None])
        with torch.no_grad():
            original = self.vggt.dense([x[:, dense_frames] for x in levels], height, width)
        ours = self.vggt.dense([x[:, dense_frames] for x in decoded], height, width)
        if self.config.as_published:
            depth = F.mse_loss(ours.depth, original.depth)
            return camera, translation, depth, F.mse_loss(ours.points, original.points)
        depth = relative_depth_error(ours.depth, original.depth).mean()
        scale = original.points.norm(dim=-1).mean().clamp_min(1e-3)
        points = ((ours.points - original.points).norm(dim=-1) / scale).clamp_max(10).mean()
        return camera, translation, depth, points

    def sheet_rows(self, pipe: Gen3RPipeline, clip: Clip) -> list[Row]:
        """VGGT's depth from its own tokens, and from those that went through the adapter."""
        images = clip.images[None].to(pipe.device)
        adapted = pipe.decode_geometry(pipe.geo_adapter.encode(packed_tokens(pipe.vggt, images)).mean)
        own = pipe.reconstruct(images[0], *images.shape[-2:], feed_forward=True)
        return [
            ("VGGT's depth", depth_colours(own.depth)),
            ("VGGT's depth through the adapter", depth_colours(adapted.depth[0])),
        ]
