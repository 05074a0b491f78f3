"""What variants change in training: the alignment's weight, and what the transformer is told of given frames."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from gen3r.cameras.camera import Cameras
from gen3r.data.records import Clip
from gen3r.data.shards import ClipShards
from gen3r.data.synthetic import synthesize
from gen3r.errors import InputError
from gen3r.models.adapter import GeometryAdapter
from gen3r.models.gaussian import DiagonalGaussian
from gen3r.models.presets import tiny
from gen3r.models.transformer import Gen3RTransformer
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.trainer import Trainer
from gen3r.training.latent_cache.encode import clip_encoder, encode_clips
from gen3r.training.latent_cache.shards import HALVES, LatentShards
from gen3r.training.stages.adapter import KEEPING, AdapterStage, _as_long
from gen3r.training.stages.adapter_init import start_from_components
from gen3r.training.stages.diffusion import DiffusionStage
from gen3r.training.stages.losses import kl_weight
from tests.tiny import tiny_pipeline
from tests.training.stages import Regression, tiny_config, tiny_stage


class Blind:
    """Clips without their depth."""

    def __init__(self, clips: ClipShards) -> None:
        self.clips, self.shape, self.fingerprint = clips, clips.shape, clips.fingerprint

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Clip:
        clip = self.clips[number]
        return replace(clip, depth=torch.zeros_like(clip.depth))


def test_kl_weights() -> None:
    kl, total = torch.tensor(100.0), torch.tensor(1.0)
    assert kl_weight(0.0, kl, total, 0.5) == 0
    assert kl_weight(0.3, kl, total, 0.5) == 0.3
    assert kl_weight("adaptive", kl, total, 0.0) == pytest.approx(1e-3)
    scheduled = [kl_weight("scheduled", kl, total, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert scheduled == pytest.approx([0, 5e-4, 1e-3, 1e-3])


def test_a_stage_knows_how_far_the_run_is() -> None:
    trainer = Trainer(Regression(), tiny_config("regression", steps=8), Accelerator())
    trainer.backward(trainer.draw(2))
    assert trainer.stage.progress == 0.25


def test_the_alignment_pulls_by_its_weight(training_data: Path) -> None:
    stage = tiny_stage("adapter", training_data)
    assert isinstance(stage, AdapterStage)
    batch = stage.make_batch(np.random.default_rng(0), 5)
    losses = {}
    for kl in (0.0, 0.1, "scheduled"):
        stage.kl, stage.progress = kl, 0.0
        torch.manual_seed(0)
        loss, report = stage(batch)
        losses[kl] = loss.item()
    assert losses["scheduled"] == losses[0.0]
    assert losses[0.1] - losses[0.0] == pytest.approx(0.1 * report["kl"].item(), rel=1e-3)


def test_an_adapter_is_drawn_to_the_latents_of_the_one_before(training_data: Path) -> None:
    parts, clips = tiny_pipeline().components, ClipShards(training_data / "clips")
    vggt, adapter = parts["vggt"], parts["geo_adapter"]
    before = deepcopy((vggt, adapter))
    spread = torch.linspace(0.5, 2, 16)
    before[1].register_to_config(latents_mean=(0.3,) * 16, latents_std=tuple(spread.tolist()))
    adapter.register_to_config(latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16)  # not measured before it is trained
    stage = AdapterStage(adapter, vggt, parts["vae"], clips, frames=(5,), before=before)
    batch = stage.make_batch(np.random.default_rng(0), 5)

    def trained() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        return stage(batch)

    assert trained()[1]["shift"] < 1e-10
    with torch.no_grad():
        adapter.quant_conv.bias[:16] += 0.1
    loss, report = trained()
    loss.backward()
    assert report["shift"].item() == pytest.approx((0.1 / spread).square().mean().item(), rel=1e-4)
    assert {n.split(".")[0] for n, p in stage.named_parameters() if p.grad is not None} == {"adapter"}
    stage.before = nn.ModuleList()
    assert loss.item() - trained()[0].item() == pytest.approx(KEEPING * report["shift"].item(), rel=1e-3)


@pytest.mark.parametrize("changes", [{"linear": True}, {"time_down": (False,) * 3}])
def test_other_adapters_learn_from_their_start(changes: dict[str, Any], training_data: Path) -> None:
    parts, clips = tiny_pipeline().components, ClipShards(training_data / "clips")
    adapter = GeometryAdapter(**tiny().geo_adapter, **changes)
    stage = AdapterStage(adapter, parts["vggt"], parts["vae"], clips, frames=(5,))
    stage.start_afresh()
    loss, _ = stage(stage.make_batch(np.random.default_rng(0), 5))
    loss.backward()
    assert [n for n, p in adapter.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("layout", ["plain_columns", "channels", "appearance"])
def test_every_layout_learns(layout: str, training_data: Path) -> None:
    stage = tiny_stage("diffusion", training_data)
    assert isinstance(stage, DiffusionStage)
    other = Gen3RTransformer(**tiny().transformer, layout=layout)
    other.init_weights()
    arguments = {name: getattr(stage, name) for name in ("text_encoder", "image_encoder", "tokenizer", "latents")}
    stage = DiffusionStage(other, vae=tiny_pipeline().vae, text_length=16, **arguments)
    torch.manual_seed(0)
    loss, report = stage(stage.make_batch(np.random.default_rng(0), 4))
    loss.backward()
    assert other.patch_embedding.weight.grad is not None
    assert list(report) == (["appearance"] if layout == "appearance" else ["appearance", "geometry"])
    assert loss.item() == pytest.approx(sum(v.item() for v in report.values()) / len(report), rel=1e-5)


def test_an_appearance_latent_stands_for_each_of_its_frames() -> None:
    mean = torch.arange(3.0).view(1, 1, 3, 1, 1)
    gaussian = DiagonalGaussian(mean, mean)
    assert _as_long(gaussian, 9).mean.flatten().tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert torch.equal(_as_long(gaussian, 3).mean, mean)


def test_a_linear_adapter_starts_as_the_principal_components() -> None:
    torch.manual_seed(0)
    adapter = GeometryAdapter(token_channels=320, resample_scale=10, linear=True)
    slow = torch.randn(64, 12, 1, 1, 1).expand(-1, -1, 5, 4, 4)
    tokens = torch.einsum("ck,bkfhw->bcfhw", torch.randn(320, 12), slow)
    start_from_components(adapter, tokens.transpose(0, 1).flatten(1))
    with torch.no_grad():
        posterior = adapter.encode(tokens)
        again = adapter.decode(posterior.mean)
    assert ((again - tokens).square().mean() / tokens.square().mean()) < 0.02
    torch.testing.assert_close(posterior.logvar, torch.full_like(posterior.logvar, -4.0))


def _stage(pipe: Gen3RPipeline, clips: ClipShards, folder: Path, *kinds: str) -> DiffusionStage:
    """The diffusion stage of a pipeline's parts on latents of these kinds."""
    names = ("transformer", "text_encoder", "image_encoder", "tokenizer", "vae")
    encoders = [clip_encoder(kind, pipe.components, 16) for kind in kinds]
    encode_clips(encoders, clips, folder)
    models = {name: value for encoder in encoders for name, value in encoder.models.items()}
    latents = LatentShards(folder, models, clips.shape, clips)
    return DiffusionStage(**{name: pipe.components[name] for name in names}, latents=latents, text_length=16)


def _told(transformer: Gen3RTransformer) -> Gen3RPipeline:
    """A tiny pipeline with this transformer, in the products of encoding."""
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=transformer.eval())
    pipe.mixed_precision = True
    return pipe


def _alike(trained: torch.Tensor, sampled: torch.Tensor) -> bool:
    """Whether controls agree in either half, as far as bfloat16 goes."""
    pairs = zip(trained.chunk(2, dim=-1), sampled.chunk(2, dim=-1), strict=True)
    return all(bool((mine - its).norm() <= 0.01 * its.norm()) for mine, its in pairs)


def test_given_geometry_is_the_same_in_training_and_sampling(training_data: Path, tmp_path: Path) -> None:
    clips = ClipShards(training_data / "clips")
    pipe = _told(Gen3RTransformer(**tiny().transformer, given_geometry="own"))
    with pytest.raises(InputError, match="given-latents"):
        _stage(pipe, clips, tmp_path, "appearance", "geometry")
    diffusion = _stage(pipe, clips, tmp_path, "appearance", "geometry", "given")
    row = {k: torch.stack([diffusion.latents[n][k] for n in (0, 1)]).float() for k in diffusion.latents[0]}
    frames = [clips[n].images for n in (0, 1)]
    for views, given in {0: [frames[0][[0, -1]], frames[1][:1]], 1: frames, 2: [f[:0] for f in frames]}.items():
        trained = diffusion._control({**row, "views": torch.full((2,), views)})
        for n in (0, 1):
            with torch.no_grad():
                sampled = pipe._control(given[n][None], 17, 112, 112)
            assert _alike(trained[n], sampled[0])
            assert bool(sampled[:, :16, ..., 14:].any()) == (views != 2)
            assert not sampled[:, 16:, ..., 14:].any()


@pytest.mark.parametrize("with_depth", [True, False])
def test_renders_are_the_same_in_training_and_sampling(with_depth: bool, training_data: Path, tmp_path: Path) -> None:
    """Two clips, of two views and of one, with cameras and without; the cameras are those of VGGT's gauge."""
    clips: Any = ClipShards(training_data / "clips")
    if not with_depth:
        clips = Blind(clips)
    pipe = _told(Gen3RTransformer(**tiny().transformer, unseen_frames="warped"))
    with pytest.raises(InputError, match="rendered-latents"):
        _stage(pipe, clips, tmp_path, "appearance", "geometry")
    diffusion = _stage(pipe, clips, tmp_path, "appearance", "geometry", "rendered")
    row = {k: torch.stack([diffusion.latents[n][k] for n in (0, 1)]).float() for k in diffusion.latents[0]}
    given = [clips[0].images[[0, -1]], clips[1].images[:1]]
    for cameras in (1.0, 0.0):
        batch = {**row, "views": torch.zeros(2, dtype=torch.long), "with_cameras": torch.full((2,), cameras)}
        trained = diffusion._control(batch)
        for n in (0, 1):
            path = Cameras(row["T_world_camera"][n], row["K_px"][n], 112, 112)
            with torch.no_grad():
                sampled = pipe._control(given[n][None], 17, 112, 112, [path] if cameras else None)
            assert _alike(trained[n], sampled[0])
            assert bool(sampled[:, 16:, ..., 14:].any()) == bool(cameras)
    for views in (1, 2):  # all views and none are as without renders
        batch = {**row, "views": torch.full((2,), views), "with_cameras": torch.ones(2)}
        assert not diffusion._control(batch)[..., 14:].any()


@pytest.mark.parametrize(("kind", "argument", "value"), [
    ("given", "given_geometry", "own"), ("rendered", "unseen_frames", "warped"),
])  # fmt: skip
def test_stills_are_first_frames_told_by_text_alone(
    kind: str, argument: str, value: str, training_data: Path, tmp_path: Path
) -> None:
    clips = ClipShards(training_data / "clips")
    pipe = _told(Gen3RTransformer(**tiny().transformer, **{argument: value}))
    diffusion = _stage(pipe, clips, tmp_path, "appearance", "geometry", kind)
    diffusion.stills = 1.0
    batch = diffusion.make_batch(np.random.default_rng(0), 2)
    assert len(batch["captions"]) == 2 * 5  # of 17 frames, 5 latent ones
    first = [diffusion.latents[n]["appearance"][:, :1].float() for n in range(len(clips))]
    assert all(any(torch.equal(row, frame) for frame in first) for row in batch["appearance"])
    conditions = diffusion.conditions(batch)
    with torch.no_grad():
        sampled = pipe._control(torch.zeros(10, 0, 3, 112, 112), 1, 112, 112)
    assert all(map(_alike, conditions.control, sampled))
    assert not conditions.rays.any()
    assert not conditions.image_embeds.any()
    loss, report = diffusion(batch)
    assert loss.isfinite()
    assert report["geometry"] > 0


def test_stills_may_be_scenes_of_their_own(training_data: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "scenes", 3, frames=1, size=112, seed=7, workers=1)
    others = _stage(tiny_pipeline(), ClipShards(tmp_path / "scenes"), tmp_path / "stills", *HALVES).latents
    diffusion = _stage(tiny_pipeline(), ClipShards(training_data / "clips"), tmp_path / "clips", *HALVES)
    diffusion.stills, diffusion.still_latents, diffusion.drop_text = 1.0, others, 0.0
    batch = diffusion.make_batch(np.random.default_rng(0), 2)
    assert {*batch["captions"]} <= {*others.captions}
    assert not {*batch["captions"]} & {*diffusion.latents.captions}
    assert diffusion(batch)[0].isfinite()


def test_without_a_view_time_is_late(training_data: Path, tmp_path: Path) -> None:
    diffusion = _stage(tiny_pipeline(), ClipShards(training_data / "clips"), tmp_path, *HALVES)
    diffusion.no_views = 0.5
    batch = diffusion.make_batch(np.random.default_rng(0), 400)
    alone = batch["views"] == 2
    assert batch["time"][alone].mean().item() == pytest.approx(3 / 4, abs=0.05)
    assert batch["time"][~alone].mean().item() == pytest.approx(1 / 2, abs=0.05)
