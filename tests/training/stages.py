"""What the tests of training train: a regression, and the stages on tiny models and clips."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gen3r.data.shards import ClipShards
from gen3r.models.encoders import encode_text
from gen3r.models.presets import build_components, build_scheduler, distilled, tiny
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.config import TrainConfig
from gen3r.training.latent_cache.encode import clip_encoder, encode_clips
from gen3r.training.latent_cache.shards import HALVES, LatentShards
from gen3r.training.stages.adapter import AdapterStage
from gen3r.training.stages.autoencoder import AutoencoderStage
from gen3r.training.stages.diffusion import DiffusionStage
from gen3r.training.stages.distill import DistillStage
from gen3r.training.stages.geometry import GeometryStage
from gen3r.training.stages.stage import Stage
from gen3r.training.stages.text import TextStage
from tests.tiny import tiny_pipeline

NAMES = ("autoencoder", "geometry", "adapter", "text", "diffusion", "distill")
BATCH = {"autoencoder": 2, "geometry": 8, "adapter": 10, "text": 4, "diffusion": 4, "distill": 2}
RATE = {"distill": 2e-4}  # of a student that starts as its teacher


class Regression(Stage):
    """A small network that learns a fixed map."""

    name = "regression"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 4))

    def make_batch(self, rng: np.random.Generator, size: int) -> dict:
        return {"x": torch.from_numpy(rng.standard_normal((size, 4))).float()}

    def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
        x = batch["x"] + 0.01 * torch.randn_like(batch["x"])
        loss = (self.net(x) - x.flip(-1)).square().mean()
        return loss, {"noise": x.std().detach()}


def tiny_stage(name: str, data: Path) -> Stage:
    """A stage on fresh tiny models; the same name gives the same one. `data` holds clips/ and, later, latents/.

    lora: the diffusion stage with adapters of rank 4.
    """
    torch.manual_seed(0)
    clips = ClipShards(data / "clips")
    if name in ("diffusion", "lora"):
        rank = 4 if name == "lora" else 0
        return DiffusionStage(**_denoising(tiny_pipeline(), clips, data / "latents"), lora=rank)
    if name == "text":
        parts = _denoising(tiny_pipeline(), clips, data / "latents")
        return TextStage(**{key: parts[key] for key in ("text_encoder", "tokenizer", "latents", "text_length")})
    if name == "distill":
        return distill_stage(tiny_pipeline(), data)
    parts = build_components(tiny())
    parts.vggt.init_weights()
    if name == "autoencoder":
        return AutoencoderStage(parts.vae, clips, frames=(5,), photos=0.5)
    if name == "geometry":
        return GeometryStage(parts.vggt, clips, frames=(2, 4))
    return AdapterStage(parts.geo_adapter, parts.vggt, parts.vae, clips, frames=(5,))


def distill_stage(pipe: Gen3RPipeline, data: Path, guidance: float = 3.0, **changes: Any) -> DistillStage:
    """A pipeline's transformer as the student of itself; its teacher is guided against the prompt "bad"."""
    with torch.no_grad():
        no_text = encode_text(pipe.tokenizer, pipe.text_encoder, ["bad"], 16, torch.device("cpu"))
    arguments = _denoising(pipe, ClipShards(data / "clips"), data / "latents")
    return DistillStage(
        build_scheduler(distilled(tiny())), guidance=guidance, no_text=no_text, **{**arguments, **changes}
    )


def _denoising(pipe: Gen3RPipeline, clips: ClipShards, folder: Path) -> dict[str, Any]:
    """What the stages on latents take, of a pipeline's modules and the clips that they encode."""
    encoders = [clip_encoder(half, pipe.components, 16) for half in HALVES]
    encode_clips(encoders, clips, folder)
    names = ("transformer", "text_encoder", "image_encoder", "tokenizer", "vae")
    latents = LatentShards(folder, encoders[0].models | encoders[1].models, clips.shape, clips)
    return {name: pipe.components[name] for name in names} | {"latents": latents, "text_length": 16}


def tiny_config(name: str, **changes) -> TrainConfig:
    """Exact, logged at every step, and quick."""
    numbers = {"steps": 6, "batch_size": BATCH.get(name, 8), "learning_rate": RATE.get(name, 1e-3), "warmup": 3}
    return TrainConfig(**{**numbers, "mixed_precision": False, "log_every": 1, **changes})
