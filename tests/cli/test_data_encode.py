"""`gen3r data encode` as people use it, and `gen3r train` on what it wrote."""

from pathlib import Path

import pytest
import torch

from gen3r.checkpoints import load_components
from gen3r.cli.main import main
from gen3r.data.shards import ClipShards
from gen3r.data.synthetic import synthesize
from gen3r.models.presets import tiny
from gen3r.models.transformer import Gen3RTransformer
from gen3r.training.latent_cache.shards import HALVES, LatentShards, model_hashes
from tests.data.layouts import Truths, write_realestate, write_wildrgbd
from tests.tiny import tiny_pipeline

CONTEXTS = (*HALVES, "contexts")
Error = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def encode(*arguments: str | Path | int) -> int:
    return main(["data", "encode", *map(str, arguments), "--device", "cpu"])


def read(
    folder: Path, model: Path, shape: tuple[int, int, int], kinds: tuple[str, ...] = tuple(HALVES)
) -> LatentShards:
    parts = vars(load_components(model))
    hashes = [model_hashes(kind, parts, parts["defaults"]["text_length"]) for kind in kinds]
    return LatentShards(folder, {k: v for h in hashes for k, v in h.items()}, shape)


def told_the_last(row: dict[str, torch.Tensor]) -> bool:
    """Whether a clip's last frame is among the given ones."""
    return bool(row["control"][-1, -1, 0, 0] > 0)


def test_clip_shards(model: Path, tmp_path: Path, capsys: Error) -> None:
    synthesize(tmp_path / "clips", 2, frames=5, size=112, workers=1)
    assert encode(tmp_path / "clips", tmp_path / "latents", "--model", model, "--contexts") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "latents")
    latents = read(tmp_path / "latents", model, (5, 112, 112), CONTEXTS)
    assert latents.captions == ClipShards(tmp_path / "clips").captions
    assert [told_the_last(row) for row in latents] == [True, False]
    other = tmp_path / "other"
    tiny_pipeline(seed=1).save_pretrained(other)
    assert encode(tmp_path / "clips", tmp_path / "latents", "--model", other) == 2
    error = capsys.readouterr().err
    assert "was made with another vae" in error
    assert "replace it with --overwrite" in error
    every = ("--two-views-every", 1)
    assert encode(tmp_path / "clips", tmp_path / "latents", "--model", other, "--overwrite", "--contexts", *every) == 0
    again = read(tmp_path / "latents", other, (5, 112, 112), CONTEXTS)
    assert len(again) == 2
    assert [told_the_last(row) for row in again] == [True, True]


def test_a_transformer_that_is_told_more_gets_it(tmp_path: Path, capsys: Error) -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=Gen3RTransformer(**tiny().transformer, unseen_frames="warped"))
    pipe.save_pretrained(tmp_path / "told")
    synthesize(tmp_path / "clips", 1, frames=5, size=112, workers=1)
    assert encode(tmp_path / "clips", tmp_path / "latents", "--model", tmp_path / "told") == 0
    [row] = read(tmp_path / "latents", tmp_path / "told", (5, 112, 112), (*HALVES, "rendered"))
    assert row["rendered"].shape == (20, 2, 14, 28)


@pytest.mark.parametrize(("dataset", "write"), [("wildrgbd", write_wildrgbd), ("re10k", write_realestate)])
def test_datasets(dataset: str, write, model: Path, truths: Truths, tmp_path: Path) -> None:
    write(tmp_path / "raw", truths(dataset))
    options = ("--model", model, "--clips", 3, "--stride", 1)
    assert encode(tmp_path / "raw", tmp_path / "latents", *options) == 0
    latents = read(tmp_path / "latents", model, (5, 112, 112))
    assert len(latents) == 3
    assert latents[0]["T_world_camera"].isfinite().all()
    assert torch.equal(latents[0]["T_world_camera"][0], torch.eye(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "9"], "holds clips that are drawn already; leave out --frames"),
        (["--dataset", "co3d"], "leave out --dataset"),
        (["--part", "2", "--parts", "2"], "there is no part 2 of 2"),
        (["--clips", "0"], "--clips must be at least 1"),
        (["--model", "nowhere"], "no model at nowhere"),
    ],
)
def test_what_cannot_work_is_one_line(
    options: list[str], message: str, model: Path, tmp_path: Path, capsys: Error
) -> None:
    synthesize(tmp_path / "clips", 1, frames=5, size=112, workers=1)
    assert encode(tmp_path / "clips", tmp_path / "latents", "--model", model, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "latents").exists()


def test_a_size_that_models_do_not_take(model: Path, truths: Truths, tmp_path: Path, capsys: Error) -> None:
    write_wildrgbd(tmp_path / "raw", truths("wildrgbd"))
    assert encode(tmp_path / "raw", tmp_path / "latents", "--model", model, "--frames", 4) == 2
    assert "a clip has 4k + 1 frames" in capsys.readouterr().err
    assert encode(tmp_path / "raw", tmp_path / "file.mp4", "--model", model, "--size", "100x112") == 2
    assert "the height must be a multiple of 112" in capsys.readouterr().err
