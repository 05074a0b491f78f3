"""A run's tokenizer: learned once, whatever clips come later."""

from dataclasses import replace
from pathlib import Path

import pytest

from gen3r.checkpoints.identity import component_hash
from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.models.presets import tiny
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.package import package
from gen3r.training.run import Run
from gen3r.training.tokenizer import learn_tokenizer

CONFIG = replace(tiny(), num_frames=5)
ONE_STEP = {"steps": 1, "batch_size": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose text encoder has been trained, and that has got more clips since."""
    folder = tmp_path_factory.mktemp("run")
    run = Run(folder, config=CONFIG)
    synthesize(folder / "train", 3, frames=5, workers=1)
    for stage in ("autoencoder", "geometry", "adapter"):
        run.train(stage, {"steps": 1, "batch_size": 1, "frames": (5,)})
    for half in ("appearance", "geometry"):
        run.encode_latents(kinds=[half])
    run.train("text", ONE_STEP)
    (folder / "train" / "clips-000000.safetensors").unlink()
    synthesize(folder / "train", 9, frames=5, seed=100, workers=1)
    for half in ("appearance", "geometry"):
        run.encode_latents(kinds=[half])
    run.train("diffusion", ONE_STEP)
    return run


def tokens(tokenizer: object, captions: list[str]) -> list[list[int]]:
    return tokenizer(captions)["input_ids"]


def test_later_clips_leave_the_tokens_as_they_are(run: Run) -> None:
    captions = ClipShards(run.folder / "train").captions
    learned = learn_tokenizer(captions, CONFIG)
    assert component_hash(learned) != component_hash(run.tokenizer())  # these clips would give another vocabulary
    trained = run.stage("diffusion", run.recipe["diffusion"][0].stage).tokenizer
    assert tokens(trained, captions) == tokens(run.tokenizer(), captions)


def test_the_package_has_the_vocabulary_that_the_encoder_learned(run: Run, tmp_path: Path) -> None:
    package(run, tmp_path / "model")
    packaged = Gen3RPipeline.from_pretrained(tmp_path / "model").tokenizer
    assert component_hash(packaged) == component_hash(run.tokenizer())
    captions = ClipShards(run.folder / "train").captions
    assert tokens(packaged, captions) == tokens(run.tokenizer(), captions)
