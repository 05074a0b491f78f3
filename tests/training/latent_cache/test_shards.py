"""The latent cache: rows in memory and on disk, and nothing stale is trained on."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gen3r.cli.main import main
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.loop import train
from gen3r.training.latent_cache import shards
from gen3r.training.latent_cache.shards import HALVES, KINDS, LatentCache, kinds_in, make_command
from gen3r.training.stages.config import DiffusionConfig
from gen3r.training.stages.diffusion import DiffusionStage
from tests.tiny import tiny_pipeline
from tests.training.latent_cache import ALL, LENGTH, encode, encoded, hashes
from tests.training.stages import MODEL


def test_rows_in_memory_are_those_of_the_files(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = LatentCache(tmp_path, encode(pipe, clips, tmp_path), clips.shape, clips)
    index = torch.tensor([4, 0, 3])
    read = latents.take(index)
    monkeypatch.setattr(shards, "has_room", lambda device, size: size > 0)
    latents.hold(torch.device("cpu"))
    held = latents.take(index)
    assert [k for k in read.keys() | held.keys() if not torch.equal(read[k], held[k])] == []
    assert torch.equal(read["T_world_camera"][1], latents[0]["T_world_camera"])


@pytest.mark.parametrize(
    "name",
    [
        "geo_adapter",
        *(pytest.param(n, marks=pytest.mark.nightly) for n in ("vae", "vggt", "text_encoder", "image_encoder")),
    ],
)
def test_a_stale_model_is_refused(name: str, pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encode(pipe, clips, tmp_path, ALL, "encode again", clips=2)
    with torch.no_grad():
        next(pipe.components[name].parameters()).view(-1)[0] += 1e-3
    kind = next(kind for kind, names in KINDS.items() if name in names)
    with pytest.raises(
        InputError,
        match=rf"{kind}-000000.safetensors was made with another {name} \(.*make it again with: encode again",
    ):
        LatentCache(tmp_path, hashes(pipe, ALL), clips.shape)
    with pytest.raises(InputError, match="replace it with --overwrite"):
        encode(pipe, clips, tmp_path, ALL, clips=2)
    kept = {k: (tmp_path / f"{k}-000000.safetensors").stat().st_mtime_ns for k in KINDS}
    models = encode(pipe, clips, tmp_path, ALL, clips=2, overwrite=True)
    assert len(LatentCache(tmp_path, models, clips.shape)) == 2
    made = {k for k in KINDS if (tmp_path / f"{k}-000000.safetensors").stat().st_mtime_ns != kept[k]}
    assert made == {kind for kind, names in KINDS.items() if name in names}


class Fewer(ClipShards):
    """A source with the first three clips alone."""

    def __init__(self, clips: ClipShards) -> None:
        self.__dict__ = clips.__dict__

    def __len__(self) -> int:
        return 3


def test_other_clips_shapes_and_text_lengths_are_refused(
    pipe: Gen3RPipeline, clips: ClipShards, test_clips: ClipShards, tmp_path: Path
) -> None:
    models = encode(pipe, clips, tmp_path, (*HALVES, "embeddings"), clips=4)
    with pytest.raises(InputError, match="was made from other clips"):
        LatentCache(tmp_path, models, clips.shape, test_clips)
    with pytest.raises(InputError, match=r"-000002\.safetensors was made from other clips"):
        LatentCache(tmp_path, models, clips.shape, Fewer(clips))
    with pytest.raises(InputError, match="holds clips of 5 x 112 x 112, not 17 x 112 x 112"):
        LatentCache(tmp_path, models, (17, 112, 112))
    with pytest.raises(InputError, match="another tokenizer"):
        LatentCache(tmp_path, models | hashes(pipe, ("embeddings",), LENGTH + 1), clips.shape)


def test_halves_of_different_clips_are_refused(
    pipe: Gen3RPipeline, clips: ClipShards, test_clips: ClipShards, tmp_path: Path
) -> None:
    encode(pipe, clips, tmp_path / "latents", ("appearance",), clips=2)
    models = hashes(pipe)
    with pytest.raises(InputError, match=f"holds no geometry latents; .* latents --folder {tmp_path}$"):
        LatentCache(tmp_path / "latents", models, clips.shape)
    encode(pipe, test_clips, tmp_path / "latents", ("geometry",))
    with pytest.raises(InputError, match=r"geometry-000000\.safetensors was made from other clips"):
        LatentCache(tmp_path / "latents", models, clips.shape)


def rewrite(path: Path, target: Path, **mark: object) -> None:
    """A copy of a shard as an older version wrote it, with log-variances; without a mark where none is given."""
    with safe_open(path, "pt") as file:
        header = file.metadata()
    old = {k: v for k, v in json.loads(header["mark"]).items() if k != "format"}
    tensors = {k: torch.cat([v, v], dim=1) if k in HALVES else v for k, v in load_file(path).items()}
    header = {"captions": header["captions"]} | ({"mark": json.dumps(old | mark)} if mark else {})
    path.unlink()
    save_file(tensors, target, header)


class TestOldCaches:
    def test_shards_with_log_variances_say_what_to_run(
        self, pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
    ) -> None:
        models = encode(pipe, clips, tmp_path, clips=2)
        path = tmp_path / "geometry-000000.safetensors"
        rewrite(path, path, command="gen3r data encode a 'b c' --model nano --contexts --overwrite")
        with pytest.raises(InputError) as refused:
            LatentCache(tmp_path, models, clips.shape)
        assert str(refused.value) == (
            f"{path} was made by an older version of gen3r; remove it, or make it again with: "
            "gen3r data encode a 'b c' --model nano --embeddings --overwrite"
        )
        with pytest.raises(InputError, match=r"an older version of gen3r; choose .*--overwrite"):
            encode(pipe, clips, tmp_path, clips=2)
        encode(pipe, clips, tmp_path, clips=2, overwrite=True)
        assert LatentCache(tmp_path, models, clips.shape)[0]["geometry"].shape == (16, 2, 14, 14)

    @pytest.mark.parametrize(
        ("kind", "old", "command", "again"),
        [
            ("warped", "rendered", "gen3r train rendered-latents --folder r --stills",
             "make warped latents with: gen3r train latents --folder r --single-frame"),
            ("embeddings", "contexts", "gen3r data encode a b --contexts",
             "make embeddings latents with: gen3r data encode a b --embeddings"),
            ("warped", "given", "gen3r train given-latents", r"remove .*/given-\*$"),
        ],
    )  # fmt: skip
    def test_old_kinds_say_what_to_run(
        self, kind: str, old: str, command: str, again: str, pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
    ) -> None:
        encode(pipe, clips, tmp_path, (*HALVES, kind), clips=2)
        rewrite(tmp_path / f"{kind}-000000.safetensors", tmp_path / f"{old}-000000.safetensors", command=command)
        with pytest.raises(InputError, match=rf"{old}-000000.safetensors was made by an older .*{again}"):
            kinds_in(tmp_path)

    def test_shards_without_a_mark_or_damaged(self, pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
        models = encode(pipe, clips, tmp_path / "latents", clips=2)
        path = tmp_path / "latents" / "geometry-000000.safetensors"
        rewrite(path, path)
        with pytest.raises(InputError, match=f"older version .*gen3r train latents --folder {tmp_path}$"):
            LatentCache(tmp_path / "latents", models, clips.shape)
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(InputError, match="is damaged"):
            LatentCache(tmp_path / "latents", models, clips.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", ["latents", "single_frame/latents"])
def test_commands_that_make_latents_exist(
    kind: str, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are parsed, and fail for want of a run alone."""
    program, *arguments = shlex.split(make_command(tmp_path / "no run" / folder, kind))
    assert program == "gen3r"
    assert str(tmp_path / "no run") in " ".join(arguments)
    with pytest.raises(SystemExit) as shown:
        main([*arguments, "--help"])
    assert shown.value.code == 0
    assert main([*arguments, "--no-such-option"]) == 2
    assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err


def stage_of(pipe: Gen3RPipeline, latents: LatentCache) -> DiffusionStage:
    return DiffusionStage(Components(**pipe.components), latents, replace(MODEL, num_frames=5), DiffusionConfig())


def test_training_on_a_cache_is_training_on_fresh_latents(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
) -> None:
    models = encode(pipe, clips, tmp_path / "latents")

    class Fresh(LatentCache):
        """The same clips, encoded whenever one is asked for."""

        def __getitem__(self, number: int) -> dict[str, Tensor]:
            return encoded(pipe, HALVES, clips, number)[0]

    config = TrainConfig(steps=1, batch_size=2, learning_rate=1e-3)
    for name, kind in (("cached", LatentCache), ("fresh", Fresh)):
        latents = kind(tmp_path / "latents", models, clips.shape, clips)
        train(stage_of(tiny_pipeline(), latents), config, tmp_path / name)
    cached, fresh = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("cached", "fresh"))
    assert [k for k in cached if not torch.equal(cached[k], fresh[k])] == []


def test_cached_embeddings_give_the_loss_of_running_encoders(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
) -> None:
    losses = []
    for kinds in (HALVES, (*HALVES, "embeddings")):
        latents = LatentCache(tmp_path, encode(pipe, clips, tmp_path, kinds), clips.shape)
        stage = stage_of(pipe, latents)
        batch = stage.make_batch(np.random.default_rng(3), 6)
        assert "" in batch["captions"]
        torch.manual_seed(0)
        losses.append(stage(batch)[0].item())
        trained = {n.split(".")[0] for n, p in stage.named_parameters() if p.requires_grad}
        encoders = {"text_encoder", "image_encoder"}
        assert trained == ({"transformer"} if "embeddings" in kinds else {"transformer", *encoders})
        pipe.text_encoder.requires_grad_(False)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_clips_that_are_repainted_are_other_clips(clips: ClipShards, tmp_path: Path) -> None:
    numbers = range(len(clips))
    tensors = {k: torch.cat([f.get_tensor(k) for f in clips._files]) for k in clips._files[0].keys()}
    path, metadata = tmp_path / "clips-000000.safetensors", {"captions": json.dumps(clips.captions)}
    save_file(tensors, path, metadata)
    assert ClipShards(tmp_path).fingerprint(numbers) == clips.fingerprint(numbers)
    tensors["frames"] = 255 - tensors["frames"]
    save_file(tensors, path, metadata)
    assert ClipShards(tmp_path).fingerprint(numbers) != clips.fingerprint(numbers)
