"""Variants of training and sampling: alignment, initial weights, losses and conditions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from experiments.ablations.models import LinearAdapter
from gen3r.cameras.camera import Cameras
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.gaussian import DiagonalGaussian
from gen3r.models.precision import fast_products
from gen3r.models.tokens import packed_tokens
from gen3r.models.vggt import VGGT
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request
from gen3r.training.engine.checkpoint import saved_step
from gen3r.training.latent_cache.encode import ENCODERS, ClipBatch
from gen3r.training.latent_cache.shards import KINDS
from gen3r.training.stages.adapter import AdapterStage
from gen3r.training.stages.adapter_init import start_from_components
from gen3r.training.stages.diffusion import ALL_VIEWS, NO_VIEWS, DiffusionStage
from gen3r.training.stages.stage import Batch

if TYPE_CHECKING:
    from gen3r.training.run import Run

OWN_GEOMETRY = "own_geometry"  # a kind of the latent cache


class NoAlignment(AdapterStage):
    """The loss has no alignment term."""

    def alignment_weight(self, kl: Tensor, reconstruction: Tensor) -> float:
        """As `AdapterStage.alignment_weight`."""
        return 0.0


class FixedAlignment(AdapterStage):
    """The alignment term has the weight 0.01."""

    def alignment_weight(self, kl: Tensor, reconstruction: Tensor) -> float:
        """As `AdapterStage.alignment_weight`."""
        return 0.01


class ScheduledAlignment(AdapterStage):
    """The adaptive weight times a factor that rises from 0 to 1 over the first half of the steps."""

    step, rise = 0, 1.0

    def prepare(self, run: "Run") -> None:
        """As `AdapterStage.prepare`; the run says how many steps it takes."""
        super().prepare(run)
        self.step, self.rise = saved_step(run.folder / self.name), run.steps / 2  # pyright: ignore[reportAttributeAccessIssue]

    def alignment_weight(self, kl: Tensor, reconstruction: Tensor) -> float:
        """As `AdapterStage.alignment_weight`; every call is one step."""
        factor = min(1.0, self.step / self.rise)
        self.step += 1
        return factor * super().alignment_weight(kl, reconstruction)


class LatentPerFrameAlignment(AdapterStage):
    """Every latent is aligned with the appearance latent of its frame."""

    def alignment(self, posterior: DiagonalGaussian, images: Tensor) -> Tensor:
        """As `AdapterStage.alignment`."""
        with torch.no_grad():
            appearance = self.vae.encode_video((2 * images - 1).transpose(1, 2))
        return posterior.kl_to(per_frame(appearance)).mean()


class LinearStart(AdapterStage):
    """A linear adapter starts at the principal components too."""

    def initialise(self, tokens: Tensor) -> None:
        """As `AdapterStage.initialise`."""
        assert isinstance(self.geo_adapter, LinearAdapter)
        initialise_linear(self.geo_adapter, tokens)


class AppearanceLoss(DiffusionStage):
    """The loss is about A alone."""

    def compare(self, velocity: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As `DiffusionStage.compare`."""
        velocity, target = (x.chunk(2, dim=-1)[0] for x in (velocity, target))
        loss, _ = super().compare(velocity, target)
        return loss, {"appearance": (velocity.detach() - target).square().mean()}


class OwnGeometry(DiffusionStage):
    """The control has the geometry latents of the conditioning frames, from the latent cache."""

    def control(self, batch: Batch) -> Tensor:
        """As `DiffusionStage.control`."""
        control = super().control(batch)
        if OWN_GEOMETRY not in batch:  # single-frame clips have no conditioning frames
            return control
        views = batch["views"][:, None, None, None, None]
        geometry = torch.where(views == ALL_VIEWS, batch["geometry"], batch[OWN_GEOMETRY])
        return with_geometry(control, torch.where(views == NO_VIEWS, 0, geometry))


class OwnGeometryPipeline(Gen3RPipeline):
    """Sampling for transformers that were trained with `OwnGeometry`."""

    def prepare_control(
        self, request: Request, frames: Tensor, path: list[Cameras] | None, depth: list[Tensor]
    ) -> Tensor:
        """As `Gen3RPipeline.prepare_control`."""
        control = super().prepare_control(request, frames, path, depth)
        if not request.num_views:
            return control
        with self._autocast(frames.device):
            geometry = own_geometry(self.vggt, self.geo_adapter, frames, request.frame_indices, request.num_frames)
        return with_geometry(control, geometry)


def own_geometry(
    vggt: VGGT, adapter: GeometryAdapter, frames: Tensor, frame_indices: list[int], num_frames: int
) -> Tensor:
    """Geometry latents [B, 16, f, h, w] of conditioning frames [B, n, 3, H, W] by themselves.

    Their tokens stand at `frame_indices` of the clip. The tokens of the other frames are zero.
    """
    own = packed_tokens(vggt, frames.to(vggt.dtype)).to(adapter.dtype)
    tokens = own.new_zeros(*own.shape[:2], num_frames, *own.shape[3:])
    tokens[:, :, frame_indices] = own
    return adapter.encode(tokens).mean


def encode_own_geometry(components: Any, batch: ClipBatch) -> list[dict[str, Tensor]]:
    """own_geometry [16, f, h, w] of the conditioning frames."""
    vggt = components.vggt
    rows = []
    for images, indices in zip(batch.images(vggt), batch.frame_indices, strict=True):
        with fast_products(vggt.device):
            latents = own_geometry(vggt, components.geo_adapter, images[None, indices], indices, len(images))
        rows.append({OWN_GEOMETRY: latents[0].half().cpu()})
    return rows


@contextmanager
def own_geometry_kind() -> Iterator[None]:
    """Adds the kind `own_geometry` to the latent cache for the time of a block."""
    if OWN_GEOMETRY in KINDS:
        yield
        return
    KINDS[OWN_GEOMETRY], ENCODERS[OWN_GEOMETRY] = KINDS["geometry"], encode_own_geometry
    try:
        yield
    finally:
        del KINDS[OWN_GEOMETRY], ENCODERS[OWN_GEOMETRY]


def with_geometry(control: Tensor, geometry: Tensor) -> Tensor:
    """A control [B, 20, f, h, 2w] with condition latents [B, 16, f, h, w] in its geometry half."""
    control = control.clone()
    control[:, : geometry.shape[1], ..., geometry.shape[-1] :] = geometry
    return control


def per_frame(appearance: DiagonalGaussian) -> DiagonalGaussian:
    """The appearance posterior [B, 16, f, h, w] once per frame: [B, 16, 4f - 3, h, w]."""
    index = [math.ceil(frame / 4) for frame in range(4 * appearance.mean.shape[2] - 3)]
    return DiagonalGaussian(appearance.mean[:, :, index], appearance.logvar[:, :, index])


@torch.no_grad()
def initialise_linear(adapter: LinearAdapter, tokens: Tensor) -> None:
    """Sets the weights of a linear adapter from a sample of packed tokens [C, N].

    The convolutions next to tokens and latents are those that a plain adapter starts with. Between them every frame of
    a latent has the identity on the channels that input and output share.
    """
    plain = GeometryAdapter(**{k: v for k, v in adapter.config.items() if not k.startswith("_")})
    start_from_components(plain, tokens)
    for name in ("conv_tokens_in", "quant_conv", "post_quant_conv", "conv_tokens_out"):
        getattr(adapter, name).load_state_dict(getattr(plain, name).state_dict())
    for coder, weight in ((adapter.encoder, 1 / 4), (adapter.decoder, 1.0)):
        conv: Any = coder.conv
        conv.weight.zero_()
        conv.bias.zero_()
        shared = range(min(adapter.config["latent_channels"], conv.in_channels, conv.out_channels))
        conv.weight[shared, shared] = weight
