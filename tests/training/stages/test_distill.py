"""The student's target is where the pipeline's own loop, with many steps and guidance, takes the teacher."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from gen3r.data.shards import ClipShards
from gen3r.models.components import Components
from gen3r.models.conditioning import known_latents
from gen3r.models.presets import build_scheduler, distilled, nano
from gen3r.request import Request
from gen3r.training.engine.loop import train
from gen3r.training.latent_cache.shards import LatentCache
from gen3r.training.stages.config import DistillConfig
from gen3r.training.stages.distill import DistillStage
from gen3r.training.stages.stage import Batch
from tests.tiny import tiny_pipeline
from tests.training.stages import distill_stage, encoded, tiny_config


def loss_of(stage: DistillStage, batch: Batch) -> float:
    torch.manual_seed(1)
    with torch.no_grad():
        return float(stage(batch)[0])


@pytest.fixture(scope="module")
def latents(training_data: Path) -> LatentCache:
    components = Components(**tiny_pipeline().components)
    return encoded(components, ClipShards(training_data / "clips"), training_data / "latents")


@pytest.fixture(scope="module")
def batch(latents: LatentCache) -> Batch:
    """One clip at every step of the student: one view, all views, no view, one view."""
    drawn = distill_stage(tiny_pipeline(), latents).make_batch(np.random.default_rng(0), 4)
    return drawn | {"time": torch.tensor([0.1, 0.3, 0.6, 0.9]), "views": torch.tensor([0, 1, 2, 0])}


@pytest.mark.parametrize("clamp", [True, False])
def test_one_step_of_an_equal_teacher_is_matched(latents: LatentCache, batch: Batch, clamp: bool) -> None:
    equal, guided, finer = (
        distill_stage(
            tiny_pipeline(), latents, DistillConfig(fine_steps=steps), guidance_scale=scale, clamp_known=clamp
        )
        for scale, steps in ((1.0, 1), (3.0, 1), (1.0, 2))
    )
    assert loss_of(equal, batch) < 1e-10
    assert loss_of(guided, batch) > 1e-6
    assert loss_of(finer, batch) > 1e-6


@pytest.mark.parametrize("clamp", [True, False])
def test_targets_end_where_the_pipelines_loop_does(latents: LatentCache, batch: Batch, clamp: bool) -> None:
    pipe = tiny_pipeline()
    stage = distill_stage(pipe, latents, clamp_known=clamp)
    conditions = stage.conditions(batch)
    clean, known = known_latents(conditions.control)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    z, path = noise, []
    for start, end in zip(stage.sigmas, stage.sigmas[1:], strict=False):
        start, end = start.expand(4), end.expand(4)
        velocity = stage.target(z, start, end, conditions, known & clamp, noise - clean, torch.full((4,), 3.0))
        z = z + (end - start)[:, None, None, None, None] * velocity
        path += [float(start[0]), float(start[0] + end[0]) / 2]
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe.scheduler.set_timesteps = partial(pipe.scheduler.set_timesteps, sigmas=path)
    conditions = replace(conditions, negative_prompt_embeds=stage.negative_prompt_embeds.expand(4, -1, -1))
    request = Request(num_inference_steps=len(path), guidance_scale=3.0, guided_share=1.0, clamp_known=clamp)
    with torch.no_grad():
        sampled = pipe.denoise(noise, conditions, request)
    assert torch.allclose(z, sampled, atol=1e-4)
    assert (sampled - noise).abs().mean() > 0.1
    assert torch.allclose(sampled, torch.where(known, clean, sampled), atol=1e-4) == clamp


def test_samples_without_a_view_have_a_guidance_of_their_own(latents: LatentCache, batch: Batch) -> None:
    def target(text_guidance: float | None = None, **guidance: Any) -> torch.Tensor:
        config = DistillConfig(text_guidance=text_guidance)
        stage, targets = distill_stage(tiny_pipeline(), latents, config, **guidance), []
        original = stage.target
        with mock.patch.object(stage, "target", lambda *arguments: targets.append(original(*arguments)) or targets[0]):
            loss_of(stage, batch)
        return targets[0]

    plain, guided = target(guidance_scale=1.0), target(guidance_scale=3.0)
    text = target(guidance_scale=1.0, text_guidance=3.0)
    alone = (batch["views"] == 2)[:, None, None, None, None]
    assert (guided - plain).abs().amax((1, 2, 3, 4)).min() > 1e-4
    assert torch.allclose(text, torch.where(alone, guided, plain), atol=1e-5)


def test_the_student_comes_nearer_and_the_rest_stays(latents: LatentCache, batch: Batch, tmp_path: Path) -> None:
    stage = distill_stage(tiny_pipeline(), latents)
    before, values = loss_of(stage, batch), {n: p.detach().clone() for n, p in stage.named_parameters()}
    train(stage, tiny_config("distill", steps=20), tmp_path)
    assert loss_of(stage, batch) < before
    moved = {n.split(".")[0] for n, p in stage.named_parameters() if not torch.equal(p, values[n])}
    assert moved == {"transformer"}


def test_known_latents_do_not_count(latents: LatentCache, batch: Batch) -> None:
    stage = distill_stage(tiny_pipeline(), latents)
    _, report = stage({k: v[1:2] for k, v in batch.items()})  # all views: appearance is known
    assert report["appearance"] == 0
    assert report["geometry"] > 0


def test_every_step_of_a_few_counts() -> None:
    config = distilled(nano(), steps=4)
    scheduler = build_scheduler(config)
    scheduler.set_timesteps(config.num_inference_steps)
    assert scheduler.sigmas.tolist() == pytest.approx([1, 0.8798, 0.6997, 0.4, 0], abs=1e-4)
    assert config.guidance_scale == 1
