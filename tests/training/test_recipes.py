"""The paper's recipe: its numbers, and its stages on a tiny model and on datasets as they lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.checkpoints.identity import component_hash
from gen3r.cli.main import main
from gen3r.data.sampled_clips import SampledClips
from gen3r.errors import InputError
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.checkpoint import saved_step
from gen3r.training.engine.logs import read_metrics
from gen3r.training.package import package
from gen3r.training.recipes import RECIPES, Phase, phases, published
from gen3r.training.run import Run
from tests.data.layouts import Truths, write_realestate, write_wildrgbd
from tests.tiny import tiny_pipeline

PUBLISHED = published()


def test_the_schedule_is_the_papers() -> None:
    first, then = (phase.train for phase in phases(PUBLISHED, "adapter", {}))
    rates = [c.learning_rate_at(s) for c, s in ((first, 0), (first, 15_000), (then, 15_000), (then, 21_000))]
    assert rates == pytest.approx([1e-5, 2e-6, 1e-5, 2e-6])
    assert then.learning_rate_at(18_000) == pytest.approx(6e-6)
    assert (first.steps, then.steps - then.first_step) == (15_000, 6_000)
    assert [phase.stage.frames for phase in PUBLISHED["adapter"]] == [(25,), (49,)]
    [diffusion] = phases(PUBLISHED, "diffusion", {})
    assert {diffusion.train.learning_rate_at(s) for s in (0, 10_000, 19_999)} == {1e-5}
    assert [(c.optimizer, c.weight_decay) for c in (first, diffusion.train)] == [("adamw", 1e-4), ("adamw", 3e-2)]


def test_phases_end_where_they_are_told_to() -> None:
    ends = {n: [p.train.steps for p in phases(PUBLISHED, "adapter", {"steps": n})] for n in (9, 16_000, 30_000)}
    assert ends == {9: [9], 16_000: [15_000, 16_000], 30_000: [15_000, 30_000]}
    with pytest.raises(InputError, match="trains adapter, diffusion, distill, lora; geometry is taken from"):
        phases(PUBLISHED, "geometry", {})


@pytest.mark.parametrize("recipe", RECIPES)
def test_changes_reach_the_engine_and_the_stage_and_misspelt_ones_nobody(recipe: str) -> None:
    [phase] = phases(RECIPES[recipe](), "diffusion", {"batch_size": 48, "drop_text": 0.7})
    assert (phase.train.batch_size, phase.stage.drop_text) == (48, 0.7)
    with pytest.raises(TypeError, match="drop_txt"):
        phases(RECIPES[recipe](), "diffusion", {"drop_txt": 0.7})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, truths: Truths) -> Run:
    """A run from a tiny model, on two datasets, whose phases are of one step and fewer frames."""
    folder = tmp_path_factory.mktemp("run")
    tiny_pipeline().save_pretrained(folder / "model")
    write_wildrgbd(folder / "train" / "wildrgbd", truths("wildrgbd"))
    write_realestate(folder / "train" / "re10k", truths("re10k"))
    adapter = [
        Phase(
            replace(phase.train, first_step=n, steps=n + 1, batch_size=frames, micro_batches=1),
            replace(phase.stage, frames=(frames,)),
        )
        for n, (phase, frames) in enumerate(zip(PUBLISHED["adapter"], (5, 9), strict=True))
    ]
    [diffusion] = PUBLISHED["diffusion"]
    short = Phase(replace(diffusion.train, steps=1, batch_size=2, micro_batches=2), diffusion.stage)
    return Run(folder, start=folder / "model", recipe={"adapter": tuple(adapter), "diffusion": (short,)})


@pytest.fixture(scope="module")
def adapted(run: Run) -> Path:
    """The model after both phases of the adapter, the first of which ran by itself."""
    run.train("adapter", {"steps": 1})
    with pytest.warns(UserWarning, match=r"goes on at step 1 with steps 1 -> 2, batch_size 5 -> 9, first_step 0 -> 1"):
        run.train("adapter", {})
    package(run, run.folder / "adapted")
    return run.folder / "adapted"


def test_clips_are_a_mixture_of_the_datasets_at_the_models_size(run: Run) -> None:
    clips = run.clips()
    assert isinstance(clips, SampledClips)
    assert set(clips.datasets) == {"wildrgbd", "re10k"}
    assert clips[0].images.shape == (5, 3, 112, 112)
    assert len({clips.mixture[n].dataset for n in range(len(clips))}) == 2


def test_phases_follow_each_other_and_resume(run: Run, adapted: Path) -> None:
    assert saved_step(run.folder / "adapter") == 2
    lines = read_metrics(run.folder / "adapter")
    assert [line["step"] for line in lines] == [0]
    assert np.isfinite([lines[0][name] for name in ("loss", "tokens", "depth", "points", "kl")]).all()
    stage = run.stage("adapter", run.recipe["adapter"][1].stage)
    assert stage.make_batch(np.random.default_rng(0), 9)["frames"].shape == (1, 9, 3, 112, 112)


def test_the_transformer_learns_from_frozen_encoders(run: Run, adapted: Path, tmp_path: Path) -> None:
    command = ["data", "encode", run.folder / "train", tmp_path / "latents", "--model", adapted, "--embeddings"]
    options = ["--clips", "8", "--device", "cpu"]
    assert main([*map(str, command), *options]) == 0
    (tmp_path / "train").symlink_to(run.folder / "train")
    after = replace(run, folder=tmp_path, start=adapted)
    after.train("diffusion", {})
    package(after, tmp_path / "model")
    first, last = (Gen3RPipeline.from_pretrained(path) for path in (adapted, tmp_path / "model"))
    changed = {name for name, part in first.components.items() if isinstance(part, torch.nn.Module)
               and component_hash(part) != component_hash(last.components[name])}  # fmt: skip
    assert changed == {"transformer"}
    plain = Gen3RPipeline.from_pretrained(run.folder / "model")
    assert component_hash(plain.vggt) == component_hash(first.vggt)  # not rounded to bfloat16
    assert component_hash(plain.geo_adapter) != component_hash(first.geo_adapter)
    stage = after.stage("diffusion", run.recipe["diffusion"][0].stage)
    batch = stage.make_batch(np.random.default_rng(0), 600)
    every = batch["views"] == 1
    two = ~every & (batch["control"][:, -1, -1, 0, 0] > 0)
    shares = [float(x.float().mean()) for x in (every, two, ~every & ~two)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)
    assert not (batch["views"] == 2).any()
    assert batch["with_cameras"].mean() == pytest.approx(0.5, abs=0.1)
