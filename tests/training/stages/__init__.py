"""What the tests of training train: a regression, and the stages on tiny models and clips."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gen3r.data.shards import ClipShards
from gen3r.models.components import Components
from gen3r.models.presets import ModelConfig, build_components, tiny
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.config import TrainConfig
from gen3r.training.latent_cache.encode import encode_clips
from gen3r.training.latent_cache.shards import HALVES, LatentCache, model_hashes
from gen3r.training.measurements import channel_statistics, sample_tokens
from gen3r.training.stages.adapter import AdapterStage
from gen3r.training.stages.autoencoder import AutoencoderStage
from gen3r.training.stages.config import (
    AdapterConfig,
    AutoencoderConfig,
    DiffusionConfig,
    DistillConfig,
    GeometryConfig,
    LoraConfig,
)
from gen3r.training.stages.diffusion import DiffusionStage
from gen3r.training.stages.distill import DistillStage
from gen3r.training.stages.geometry import GeometryStage
from gen3r.training.stages.lora import LoraStage
from gen3r.training.stages.stage import Stage
from gen3r.training.stages.text import TextStage
from tests.tiny import tiny_pipeline

MODEL = replace(tiny(), num_frames=17)
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
    """A stage on fresh tiny models; the same name gives the same one. `data` holds clips/ and, later, latents/."""
    torch.manual_seed(0)
    clips = ClipShards(data / "clips")
    if name in ("text", "diffusion", "distill", "lora"):
        return latent_stage(name, tiny_pipeline(), clips, data / "latents")
    components = build_components(tiny())
    components.vggt.init_weights()
    if name == "autoencoder":
        return AutoencoderStage(components, clips, AutoencoderConfig(frames=(5,), photo_share=0.5))
    if name == "geometry":
        return GeometryStage(components, clips, GeometryConfig(frames=(2, 4)))
    stage = AdapterStage(components, clips, AdapterConfig(frames=(5,)))
    stage.normalise_tokens(**channel_statistics(sample_tokens(stage.vggt, clips)))
    return stage


def latent_stage(
    name: str, pipe: Gen3RPipeline, clips: ClipShards, folder: Path, kinds: tuple[str, ...] = HALVES
) -> Stage:
    """A stage on the latents of a pipeline's modules, which are encoded into `folder`."""
    components = Components(**pipe.components)
    latents = encoded(components, clips, folder, kinds)
    if name == "text":
        return TextStage(components, latents, MODEL.text_length)
    if name == "distill":
        return distill_stage(pipe, latents)
    if name == "lora":
        return LoraStage(components, latents, MODEL, LoraConfig(rank=4))
    return DiffusionStage(components, latents, MODEL, DiffusionConfig())


def distill_stage(
    pipe: Gen3RPipeline, latents: LatentCache, config: DistillConfig | None = None, **changes: Any
) -> DistillStage:
    """A pipeline's transformer as the student of itself; its teacher is guided against the prompt "bad"."""
    model: dict[str, Any] = {"negative_prompt": "bad", "guidance_scale": 3.0, "clamp_known": True, **changes}
    components = Components(**pipe.components)
    return DistillStage(components, latents, replace(MODEL, **model), config or DistillConfig())


def encoded(
    components: Components, clips: ClipShards, folder: Path, kinds: tuple[str, ...] = HALVES, model: ModelConfig = MODEL
) -> LatentCache:
    """The latent cache of clips."""
    encode_clips(kinds, components, clips, folder, model.text_length)
    return LatentCache(folder, model_hashes(kinds, components, model.text_length), clips.shape, clips)


def tiny_config(name: str, **changes) -> TrainConfig:
    """Exact, logged at every step, and quick."""
    numbers = {"steps": 6, "batch_size": BATCH.get(name, 8), "learning_rate": RATE.get(name, 1e-3), "warmup": 3}
    return TrainConfig(**{**numbers, "mixed_precision": False, "log_every": 1, **changes})
