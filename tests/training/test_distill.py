"""The student is asked to end where the pipeline's own loop, with many steps and guidance, takes the teacher."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from gen3r.models.conditioning import known_latents
from gen3r.models.presets import build_scheduler, distilled, nano
from gen3r.training.engine.loop import train
from gen3r.training.stages.stage import Batch
from tests.tiny import tiny_pipeline
from tests.training.stages import distill_stage, tiny_config


def loss_of(stage, batch: Batch) -> float:
    torch.manual_seed(1)
    with torch.no_grad():
        return float(stage(batch)[0])


@pytest.fixture(scope="module")
def batch(training_data: Path) -> Batch:
    """One clip at every step of the student's; one view, all views, none, one view."""
    drawn = distill_stage(tiny_pipeline(), training_data).make_batch(np.random.default_rng(0), 4)
    return drawn | {"time": torch.tensor([0.1, 0.3, 0.6, 0.9]), "views": torch.tensor([0, 1, 2, 0])}


@pytest.mark.parametrize("hold", [True, False])
def test_one_step_of_an_equal_teacher_is_matched(training_data: Path, batch: Batch, hold: bool) -> None:
    equal, guided, finer = (
        distill_stage(tiny_pipeline(), training_data, guidance, fine_steps=steps, hold_given=hold)
        for guidance, steps in ((1.0, 1), (3.0, 1), (1.0, 2))
    )
    assert loss_of(equal, batch) < 1e-10
    assert loss_of(guided, batch) > 1e-6
    assert loss_of(finer, batch) > 1e-6


@pytest.mark.parametrize("hold", [True, False])
def test_targets_end_where_the_pipelines_loop_does(training_data: Path, batch: Batch, hold: bool) -> None:
    pipe = tiny_pipeline()
    stage = distill_stage(pipe, training_data, guidance=3.0, fine_steps=2, hold_given=hold)
    told = stage.conditions(batch)
    given, known = known_latents(told.control)
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(2))
    z, path = noise, []
    for start, end in zip(stage.sigmas, stage.sigmas[1:], strict=False):
        start, end = start.expand(4), end.expand(4)
        velocity = stage.target(z, start, end, told, known & hold, noise - given, torch.full((4,), 3.0))
        z = z + (end - start)[:, None, None, None, None] * velocity
        path += [float(start[0]), float(start[0] + end[0]) / 2]
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe.scheduler.set_timesteps = partial(pipe.scheduler.set_timesteps, sigmas=path)
    assert stage.no_text is not None
    conditions = replace(told, no_text=stage.no_text.expand(4, -1, -1))
    with torch.no_grad():
        made = pipe._denoise(noise, conditions, len(path), 3.0, len(path), hold, None)
    assert torch.allclose(z, made, atol=1e-4)
    assert (made - noise).abs().mean() > 0.1
    assert torch.allclose(made, torch.where(known, given, made), atol=1e-4) == hold


def test_samples_without_a_view_have_a_guidance_of_their_own(training_data: Path, batch: Batch) -> None:
    def target(**guidance: float) -> torch.Tensor:
        stage, made = distill_stage(tiny_pipeline(), training_data, **guidance), []
        original = stage.target
        with mock.patch.object(stage, "target", lambda *arguments: made.append(original(*arguments)) or made[0]):
            loss_of(stage, batch)
        return made[0]

    plain, guided, words = target(guidance=1.0), target(guidance=3.0), target(guidance=1.0, text_guidance=3.0)
    alone = (batch["views"] == 2)[:, None, None, None, None]
    assert (guided - plain).abs().amax((1, 2, 3, 4)).min() > 1e-4
    assert torch.allclose(words, torch.where(alone, guided, plain), atol=1e-6)


def test_the_student_comes_nearer_and_the_rest_stays(training_data: Path, batch: Batch, tmp_path: Path) -> None:
    stage = distill_stage(tiny_pipeline(), training_data)
    before, values = loss_of(stage, batch), {n: p.detach().clone() for n, p in stage.named_parameters()}
    train(stage, tiny_config("distill", steps=20), tmp_path)
    assert loss_of(stage, batch) < before
    moved = {n.split(".")[0] for n, p in stage.named_parameters() if not torch.equal(p, values[n])}
    assert moved == {"transformer"}


def test_what_is_held_does_not_count(training_data: Path, batch: Batch) -> None:
    stage = distill_stage(tiny_pipeline(), training_data)
    _, report = stage({k: v[1:2] for k, v in batch.items()})  # all views: appearance is known
    assert report["appearance"] == 0
    assert report["geometry"] > 0


def test_every_step_of_a_few_counts() -> None:
    config = distilled(nano(), steps=4)
    scheduler = build_scheduler(config)
    scheduler.set_timesteps(config.num_inference_steps)
    assert scheduler.sigmas.tolist() == pytest.approx([1, 0.8798, 0.6997, 0.4, 0], abs=1e-4)
    assert config.guidance_scale == 1
