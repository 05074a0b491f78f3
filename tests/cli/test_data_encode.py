"""`gen3r data encode` as people use it."""

from pathlib import Path

import pytest
import torch

from gen3r.checkpoints import load_components
from gen3r.cli.main import main
from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.models.presets import tiny
from gen3r.models.transformer import Gen3RTransformer
from gen3r.training.latent_cache.shards import HALVES, LatentCache, Mark, model_hashes
from tests.data.layouts import Truths, write_realestate, write_wildrgbd
from tests.tiny import tiny_pipeline

SHAPE = (5, 112, 112)
Error = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synthesize(folder, 2, frames=5, size=112, workers=1)
    return folder


def encode(*arguments: str | Path | int) -> int:
    return main(["data", "encode", *map(str, arguments), "--device", "cpu"])


def read(folder: Path, model: Path, kinds: tuple[str, ...] = HALVES) -> LatentCache:
    components = load_components(model)
    return LatentCache(folder, model_hashes(kinds, components, components.defaults["text_length"]), SHAPE)


def conditioned_on_the_last(row: dict[str, torch.Tensor]) -> bool:
    """Whether a clip's last frame is among its conditioning frames."""
    return bool(row["control"][-1, -1, 0, 0] > 0)


def test_clip_shards(model: Path, clips: Path, tmp_path: Path, capsys: Error) -> None:
    kinds, latents = (*HALVES, "embeddings"), tmp_path / "latents"
    assert encode(clips, latents, "--model", model, "--embeddings") == 0
    assert capsys.readouterr().out.strip() == str(latents)
    cache = read(latents, model, kinds)
    assert cache.captions == ClipShards(clips).captions
    assert [conditioned_on_the_last(row) for row in cache] == [True, False]
    other = tmp_path / "other"
    tiny_pipeline(seed=1).save_pretrained(other)
    assert encode(clips, latents, "--model", other) == 2
    error = capsys.readouterr().err
    assert "was made with another vae" in error
    assert "replace it with --overwrite" in error
    options = ("--overwrite", "--embeddings", "--two-views-every", 1)
    assert encode(clips, latents, "--model", other, *options) == 0
    assert [conditioned_on_the_last(row) for row in read(latents, other, kinds)] == [True, True]


def test_a_transformer_with_warped_views_gets_them(clips: Path, tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=Gen3RTransformer(**tiny().transformer, unseen_frames="warped"))
    pipe.save_pretrained(tmp_path / "warped")
    assert encode(clips, tmp_path / "latents", "--model", tmp_path / "warped", "--clips", 1) == 0
    [row] = read(tmp_path / "latents", tmp_path / "warped", (*HALVES, "warped"))
    assert row["warped"].shape == (20, 2, 14, 28)


@pytest.mark.parametrize(("dataset", "write"), [("wildrgbd", write_wildrgbd), ("re10k", write_realestate)])
def test_datasets(dataset: str, write, model: Path, truths: Truths, tmp_path: Path) -> None:
    write(tmp_path / "raw", truths(dataset))
    latents = tmp_path / "latents"
    options = ("--clips", 2, "--stride", 1, "--size", "112x112")
    assert encode(tmp_path / "raw", latents, "--model", model, *options) == 0
    cache = read(latents, model)
    assert len(cache) == 2
    assert cache[0]["T_world_camera"].isfinite().all()
    assert torch.equal(cache[0]["T_world_camera"][0], torch.eye(4))
    mark = Mark.of(cache._shards[0][0].metadata())
    assert mark.command == (
        f"gen3r data encode {tmp_path / 'raw'} {latents} --model {model} "
        "--clips 2 --size 112x112 --stride 1 --overwrite"
    )
    assert main([*mark.command.split()[1:], "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "9"], "holds clips that are drawn already; leave out --frames"),
        (["--seed", "0"], "leave out --seed"),
        (["--dataset", "co3d"], "leave out --dataset"),
        (["--shard", "2", "--num-shards", "2"], "there is no shard 2 of 2"),
        (["--clips", "0"], "--clips must be at least 1"),
        (["--model", "nowhere"], "no model at 'nowhere'"),
    ],
)
def test_what_cannot_work_is_one_line(
    options: list[str], message: str, model: Path, clips: Path, tmp_path: Path, capsys: Error
) -> None:
    assert encode(clips, tmp_path / "latents", "--model", model, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "latents").exists()


def test_a_size_that_models_do_not_take(model: Path, truths: Truths, tmp_path: Path, capsys: Error) -> None:
    write_wildrgbd(tmp_path / "raw", truths("wildrgbd"))
    assert encode(tmp_path / "raw", tmp_path / "latents", "--model", model, "--frames", 4) == 2
    assert "a clip has 4k + 1 frames" in capsys.readouterr().err
    assert encode(tmp_path / "raw", tmp_path / "latents", "--model", model, "--size", "100x112") == 2
    assert "the height must be a multiple of 112" in capsys.readouterr().err
