"""The latent cache: what goes in comes out, and nothing stale is trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gen3r.cameras.conventions import decode_pose
from gen3r.data.clips import ClipSampler
from gen3r.data.readers import open_dataset
from gen3r.data.records import Clip
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.shards import ClipShards
from gen3r.data.synthetic import synthesize
from gen3r.errors import InputError
from gen3r.geometry.normalise import normalise_scene, to_first_camera
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import fast_products
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.loop import train
from gen3r.training.latent_cache import encode as encoding
from gen3r.training.latent_cache import shards as latents_module
from gen3r.training.latent_cache.encode import ClipEncoder, clip_encoder, encode_clips
from gen3r.training.latent_cache.shards import HALVES, KINDS, LatentShards
from gen3r.training.stages.diffusion import DiffusionStage
from tests.data.layouts import Truths, write_realestate, write_wildrgbd
from tests.tiny import tiny_pipeline

LENGTH = 16
COUNT = 5


@pytest.fixture(scope="module")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synthesize(folder, COUNT, frames=5, size=112, workers=1)
    return folder


@pytest.fixture(scope="module")
def clips(clips_folder: Path) -> ClipShards:
    return ClipShards(clips_folder)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Gen3RPipeline:
    monkeypatch.setattr(encoding, "SHARD_CLIPS", 2)  # so that five clips fill three shards
    return tiny_pipeline()


def encoders_of(pipe: Gen3RPipeline, kinds: tuple[str, ...] = tuple(HALVES)) -> list[ClipEncoder]:
    return [clip_encoder(kind, pipe.components, LENGTH) for kind in kinds]


def hashes_of(encoders: list[ClipEncoder]) -> dict[str, str]:
    return {name: value for encoder in encoders for name, value in encoder.models.items()}


def test_what_is_encoded_is_read(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encoders = encoders_of(pipe, tuple(KINDS))
    encode_clips(encoders, clips, tmp_path)
    latents = LatentShards(tmp_path, hashes_of(encoders), clips.shape, clips)
    assert len(latents) == COUNT
    assert latents.captions == clips.captions
    assert latents[0]["appearance"].shape == latents[0]["geometry"].shape == (32, 2, 14, 14)
    for number in (0, 3, 4):
        row, clip = latents[number], clips[number]
        with torch.inference_mode():
            fresh = {k: v for e in encoders for k, v in e.encode([clip], [number])[0].items()}
        assert fresh.pop("unit") == 1
        assert row.keys() == fresh.keys()
        text = fresh.pop("text")
        assert torch.equal(row.pop("text")[: len(text)], text)
        assert [k for k in row if not torch.equal(row[k], fresh[k])] == []
        assert torch.equal(row["first_frame"].permute(1, 2, 0), clip.frames[0])
        _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
        assert torch.equal(row["T_world_camera"], poses)


def test_rows_in_memory_are_those_of_the_files(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = encoders_of(pipe)
    encode_clips(encoders, clips, tmp_path)
    for path in tmp_path.glob("geometry-*"):
        with safe_open(path, "pt") as file:
            header = file.metadata()
        tensors = load_file(path)
        save_file(tensors | {"unit": 2 * tensors["unit"]}, path, header)
    latents = LatentShards(tmp_path, hashes_of(encoders), clips.shape, clips)
    index = torch.tensor([4, 0, 3])
    read = latents.take(index)
    monkeypatch.setattr(latents_module, "has_room", lambda device, size: size > 0)
    latents.hold(torch.device("cpu"))
    held = latents.take(index)
    assert [k for k in read.keys() | held.keys() if not torch.equal(read[k], held[k])] == []
    assert torch.equal(read["T_world_camera"][1], latents[0]["T_world_camera"])


def test_contexts_are_what_the_encoders_say(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encoders = encoders_of(pipe, tuple(KINDS))
    encode_clips(encoders, clips, tmp_path)
    latents = LatentShards(tmp_path, hashes_of(encoders), clips.shape)
    with torch.no_grad():
        for number in range(COUNT):
            row, clip = latents[number], clips[number]
            for key, prompt in (("text", clip.caption), ("no_text", "")):
                whole = encode_text(pipe.tokenizer, pipe.text_encoder, [prompt], LENGTH, torch.device("cpu"))[0]
                assert torch.equal(row[key], whole[: len(row[key])])
                assert not whole[len(row[key]) :].any()
            assert torch.equal(row["image"], encode_image(pipe.image_encoder, clip.images[:1])[0])


@pytest.mark.parametrize("name", ["vae", "vggt", "geo_adapter", "text_encoder", "image_encoder"])
def test_a_stale_model_is_refused(name: str, pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encode_clips(encoders_of(pipe, tuple(KINDS)), clips, tmp_path, count=2, command="encode again")
    with torch.no_grad():
        next(pipe.components[name].parameters()).view(-1)[0] += 1e-3
    kind = next(kind for kind, names in KINDS.items() if name in names)
    expected = rf"{kind}-000000.safetensors was made with another {name} \(.*make it again with: encode again"
    changed = encoders_of(pipe, tuple(KINDS))
    with pytest.raises(InputError, match=expected):
        LatentShards(tmp_path, hashes_of(changed), clips.shape)
    with pytest.raises(InputError, match="replace it with --overwrite"):
        encode_clips(changed, clips, tmp_path, count=2)
    kept = {k: (tmp_path / f"{k}-000000.safetensors").stat().st_mtime_ns for k in KINDS}
    encode_clips(changed, clips, tmp_path, count=2, overwrite=True)
    assert len(LatentShards(tmp_path, hashes_of(changed), clips.shape)) == 2
    made = {k for k in KINDS if (tmp_path / f"{k}-000000.safetensors").stat().st_mtime_ns != kept[k]}
    assert made == {kind for kind, names in KINDS.items() if name in names}


def test_other_clips_shapes_and_text_lengths_are_refused(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
) -> None:
    encoders = encoders_of(pipe, tuple(KINDS))
    encode_clips(encoders, clips, tmp_path / "latents", count=4)
    models = hashes_of(encoders)
    synthesize(tmp_path / "test", 4, "test", frames=5, size=112, workers=1)
    with pytest.raises(InputError, match="was made from other clips"):
        LatentShards(tmp_path / "latents", models, clips.shape, ClipShards(tmp_path / "test"))
    synthesize(tmp_path / "fewer", 3, frames=5, size=112, workers=1)
    with pytest.raises(InputError, match=r"-000002\.safetensors was made from other clips"):
        LatentShards(tmp_path / "latents", models, clips.shape, ClipShards(tmp_path / "fewer"))
    with pytest.raises(InputError, match="holds clips of 5 x 112 x 112, not 17 x 112 x 112"):
        LatentShards(tmp_path / "latents", models, (17, 112, 112))
    longer = clip_encoder("contexts", pipe.components, LENGTH + 1).models
    with pytest.raises(InputError, match="another tokenizer"):
        LatentShards(tmp_path / "latents", models | longer, clips.shape)


def test_clips_that_are_repainted_are_other_clips(clips: ClipShards, clips_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "clips-000000.safetensors"
    with safe_open(str(clips_folder / "clips-000000.safetensors"), framework="pt") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
    save_file(tensors, path, metadata)
    numbers = range(COUNT)
    assert ClipShards(tmp_path).fingerprint(numbers) == clips.fingerprint(numbers)
    tensors["frames"] = 255 - tensors["frames"]
    save_file(tensors, path, metadata)
    assert ClipShards(tmp_path).fingerprint(numbers) != clips.fingerprint(numbers)


def test_shards_without_a_mark_or_damaged_are_refused(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encoders = encoders_of(pipe)
    encode_clips(encoders, clips, tmp_path, count=2)
    path = tmp_path / "geometry-000000.safetensors"
    captions = json.dumps(clips.captions[:2])
    save_file(load_file(path), path, {"captions": captions})
    with pytest.raises(InputError, match=r"another vggt \(unknown, not .*gen3r train geometry-latents"):
        LatentShards(tmp_path, hashes_of(encoders), clips.shape)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is damaged"):
        LatentShards(tmp_path, hashes_of(encoders), clips.shape)


def test_halves_of_different_clips_are_refused(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    synthesize(tmp_path / "test", 2, "test", frames=5, size=112, workers=1)
    appearance, geometry = encoders_of(pipe)
    encode_clips([appearance], clips, tmp_path, count=2)
    with pytest.raises(InputError, match="holds no geometry latents"):
        LatentShards(tmp_path, hashes_of([appearance, geometry]), clips.shape)
    encode_clips([geometry], ClipShards(tmp_path / "test"), tmp_path)
    with pytest.raises(InputError, match=r"geometry-000000\.safetensors was made from other clips"):
        LatentShards(tmp_path, hashes_of([appearance, geometry]), clips.shape)


def assert_same_shards(one: Path, other: Path) -> None:
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in other.iterdir())
    for name in names:
        with safe_open(str(one / name), framework="pt") as a, safe_open(str(other / name), framework="pt") as b:
            assert a.metadata() == b.metadata()
            assert a.keys() == b.keys()
            assert [k for k in a.keys() if not torch.equal(a.get_tensor(k), b.get_tensor(k))] == []


def test_parts_cover_all_and_a_missing_one_is_noticed(pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path) -> None:
    encoders = encoders_of(pipe)
    encode_clips(encoders, clips, tmp_path / "whole")
    encode_clips(encoders, clips, tmp_path / "parts", part=1, parts=2)
    with pytest.raises(InputError, match="lacks appearance latents of clips from 0 on"):
        LatentShards(tmp_path / "parts", hashes_of(encoders), clips.shape)
    encode_clips(encoders, clips, tmp_path / "parts", part=0, parts=2)
    assert_same_shards(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / "geometry-000002.safetensors").unlink()
    with pytest.raises(InputError, match="lacks geometry latents of clips from 2 on"):
        LatentShards(tmp_path / "parts", hashes_of(encoders), clips.shape)
    with pytest.raises(InputError, match="no part 2 of 2"):
        encode_clips(encoders, clips, tmp_path / "parts", part=2, parts=2)


def test_an_interrupted_run_goes_on(pipe: Gen3RPipeline, clips: ClipShards, clips_folder: Path, tmp_path: Path) -> None:
    class Interrupted(ClipShards):
        def __getitem__(self, number: int) -> Clip:
            if number == 3:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    encoders = encoders_of(pipe)
    with pytest.raises(KeyboardInterrupt):
        encode_clips(encoders, Interrupted(clips_folder), tmp_path / "parts")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "parts").iterdir()}
    assert {p.name for p in kept} == {f"{half}-000000.safetensors" for half in HALVES}
    encode_clips(encoders, clips, tmp_path / "parts")
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    encode_clips(encoders, clips, tmp_path / "whole")
    assert_same_shards(tmp_path / "whole", tmp_path / "parts")


def stage_of(pipe: Gen3RPipeline, latents: LatentShards, frozen: bool = False) -> DiffusionStage:
    encoders = (None, None) if frozen else (pipe.text_encoder, pipe.image_encoder)
    return DiffusionStage(pipe.transformer, *encoders, pipe.tokenizer, pipe.vae, latents, LENGTH, frames=5)


def test_training_on_a_cache_is_training_on_fresh_latents(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
) -> None:
    encoders = encoders_of(pipe)
    encode_clips(encoders, clips, tmp_path / "latents")

    class Fresh(LatentShards):
        """The same clips, encoded whenever one is asked for."""

        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            with torch.inference_mode():
                item = {k: v for e in encoders for k, v in e.encode([clips[number]], [number])[0].items()}
            return {k: v.clone() for k, v in item.items() if k != "unit"}

    config = TrainConfig(steps=2, batch_size=2, learning_rate=1e-3)
    for name, kind in (("cached", LatentShards), ("fresh", Fresh)):
        latents = kind(tmp_path / "latents", hashes_of(encoders), clips.shape, clips)
        train(stage_of(tiny_pipeline(), latents), config, tmp_path / name)
    cached, fresh = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("cached", "fresh"))
    assert [k for k in cached if not torch.equal(cached[k], fresh[k])] == []


def test_cached_contexts_give_the_loss_of_running_encoders(
    pipe: Gen3RPipeline, clips: ClipShards, tmp_path: Path
) -> None:
    encoders = encoders_of(pipe, tuple(KINDS))
    encode_clips(encoders, clips, tmp_path)
    latents = LatentShards(tmp_path, hashes_of(encoders), clips.shape)
    losses = []
    for frozen in (False, True):
        stage = stage_of(pipe, latents, frozen)
        batch = stage.make_batch(np.random.default_rng(3), 6)
        assert "" in batch["captions"]
        torch.manual_seed(0)
        losses.append(stage(batch)[0].item())
        trained = {n.split(".")[0] for n, p in stage.named_parameters() if p.requires_grad}
        assert trained == {"transformer"} if frozen else {"transformer", "text_encoder", "image_encoder"}
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_dataset_is_encoded_as_it_lies(pipe: Gen3RPipeline, truths: Truths, tmp_path: Path) -> None:
    write_wildrgbd(tmp_path / "wild", truths("wildrgbd"))
    reader = open_dataset("wildrgbd", tmp_path / "wild")

    def drawn(seed: int) -> SampledClips:
        return SampledClips({"wild": reader}, ClipSampler(frames=5, height=112, width=112), count=3, seed=seed)

    encoders = encoders_of(pipe)
    encode_clips(encoders, drawn(0), tmp_path / "latents")
    latents = LatentShards(tmp_path / "latents", hashes_of(encoders), (5, 112, 112), drawn(0))
    assert len(latents) == 3
    clip = drawn(0)[2]
    _, poses, _ = normalise_scene(clip.depth, clip.cameras.T_world_camera, clip.cameras.K_px)
    assert torch.equal(latents[2]["T_world_camera"], poses)
    with pytest.raises(InputError, match="other clips"):
        LatentShards(tmp_path / "latents", hashes_of(encoders), (5, 112, 112), drawn(1))


def test_without_depth_the_unit_is_what_vggt_sees(pipe: Gen3RPipeline, truths: Truths, tmp_path: Path) -> None:
    write_realestate(tmp_path / "clips", truths("re10k"))
    reader = open_dataset("re10k", tmp_path / "clips")
    sampler = ClipSampler(frames=5, height=112, width=112, max_stride=1)
    source = SampledClips({"re10k": reader}, sampler)
    encoders = encoders_of(pipe)
    encode_clips(encoders, source, tmp_path / "latents")
    latents = LatentShards(tmp_path / "latents", hashes_of(encoders), source.shape, source)
    clip = source[0]
    with torch.no_grad():
        with fast_products(torch.device("cpu")):
            levels = pipe.vggt.tokens(clip.images[None])
        seen, _ = decode_pose(pipe.vggt.camera([x.float() for x in levels])[-1, 0], 112, 112)
    far = to_first_camera(seen)[:, :3, 3].norm()
    poses = latents[0]["T_world_camera"]
    assert poses[:, :3, 3].norm() == pytest.approx(float(far), rel=1e-3)
    own = to_first_camera(clip.cameras.T_world_camera)
    torch.testing.assert_close(poses[:, :3, :3], own[:, :3, :3])
    torch.testing.assert_close(poses[:, :3, 3] / far, own[:, :3, 3] / own[:, :3, 3].norm(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_clips_that_are_encoded_together_are_as_alone(pipe: Gen3RPipeline, clips: ClipShards, kind: str) -> None:
    (encoder,) = encoders_of(pipe, (kind,))
    numbers = range(3)  # given one view and two
    with torch.inference_mode():
        together = encoder.encode([clips[n] for n in numbers], numbers)
        for number, row in zip(numbers, together, strict=True):
            (alone,) = encoder.encode([clips[number]], [number])
            assert alone.keys() == row.keys()
            for name, value in alone.items():
                torch.testing.assert_close(row[name].float(), value.float(), rtol=2e-2, atol=2e-2)
