"""The loop: resumption, checkpoints, and the stages on tiny models."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gen3r.data.shards import ClipShards, synthesize
from gen3r.errors import InputError
from gen3r.models.presets import build_components, tiny
from gen3r.training.adapter_step import AdapterStage
from gen3r.training.autoencoder_step import AutoencoderStage
from gen3r.training.diffusion_step import DiffusionStage
from gen3r.training.encoding import clip_encoder, encode_clips
from gen3r.training.geometry_step import GeometryStage
from gen3r.training.latents import HALVES, LatentShards
from gen3r.training.loop import Stage, TrainConfig, load_average, train
from gen3r.training.optimizers import MuonAdamW
from tests.tiny import tiny_pipeline


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


CONFIG = TrainConfig(steps=30, batch_size=8, learning_rate=1e-2, warmup=3)


def test_it_learns(tmp_path: Path) -> None:
    stage = Regression()
    before = stage(stage.make_batch(np.random.default_rng(0), 64))[0].item()
    train(stage, TrainConfig(steps=150, batch_size=32, learning_rate=1e-2), tmp_path)
    after = stage(stage.make_batch(np.random.default_rng(0), 64))[0].item()
    assert after < 0.2 * before


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path / "whole")

    class Interrupted(Regression):
        def make_batch(self, rng: np.random.Generator, size: int) -> dict:
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 14:
                raise KeyboardInterrupt
            return super().make_batch(rng, size)

    eager = TrainConfig(steps=30, batch_size=8, learning_rate=1e-2, warmup=3, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), eager, tmp_path / "parts")
    train(Regression(), CONFIG, tmp_path / "parts")
    whole, parts = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []


def test_a_signal_saves_first(tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path / "whole")

    class Signalled(Regression):
        def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 11:
                signal.raise_signal(signal.SIGTERM)
            return super().forward(batch)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="saved at step 11"):
        train(Signalled(), CONFIG, tmp_path / "parts")
    assert signal.getsignal(signal.SIGTERM) == before
    train(Regression(), CONFIG, tmp_path / "parts")
    whole, parts = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "parts"))
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []


def test_averages_load_into_a_module(tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path)
    net = Regression().net
    load_average(tmp_path, net, "net.")
    saved = load_file(tmp_path / "checkpoint.safetensors")
    assert torch.equal(net[0].weight, saved["ema/net.0.weight"])
    assert not torch.equal(net[0].weight, saved["model/net.0.weight"])
    with pytest.raises(InputError, match="train that stage first"):
        load_average(tmp_path / "none", net, "net.")


def test_another_stage_or_size_is_refused(tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path)

    class Other(Regression):
        name = "other"

    with pytest.raises(InputError, match="belongs to stage regression"):
        train(Other(), CONFIG, tmp_path)

    class Deeper(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(4, 4)

    with pytest.raises(InputError, match="other model sizes"):
        train(Deeper(), CONFIG, tmp_path)


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    class Poisoned(Regression):
        def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
            loss, report = super().forward(batch)
            return loss * float("nan"), report

    stage = Poisoned()
    train(stage, CONFIG, tmp_path)
    for ours, fresh in zip(stage.parameters(), Regression().parameters(), strict=True):
        assert torch.equal(ours, fresh)


def test_muon_shares_memory_with_convolutions() -> None:
    conv = nn.Conv3d(16, 32, 3)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)
    optimizer = MuonAdamW(conv, 0.1, 0.0)
    before = conv.weight.detach().clone()
    conv(torch.randn(1, 16, 3, 3, 3)).sum().backward()
    optimizer.step()
    assert (conv.weight - before).abs().max() > 1e-4
    assert any("momentum_buffer" in name for name in optimizer.state_tensors())


def test_muon_steps_in_units_of_a_scale() -> None:
    torch.manual_seed(0)
    x, scale = torch.randn(64, 16), torch.logspace(-2, 2, 32)[:, None]
    plain, scaled = nn.Linear(16, 32), nn.Linear(16, 32)
    scaled.load_state_dict({"weight": plain.weight * scale, "bias": plain.bias})
    scaled.weight.step_scale = scale  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(3):
        for layer, unit in ((plain, torch.ones(32)), (scaled, scale[:, 0])):
            optimizer = MuonAdamW(layer, 0.1, 0.0)
            ((layer(x) - layer.bias) / unit).square().sum().backward()
            optimizer.step()
            layer.zero_grad()
    torch.testing.assert_close(scaled.weight / scale, plain.weight)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipShards:
    folder = tmp_path_factory.mktemp("clips")
    synthesize(folder, 2, frames=17, size=112, workers=1)
    return ClipShards(folder)


@pytest.mark.parametrize("name", ["autoencoder", "geometry", "adapter"])
def test_stages_on_tiny_models(name: str, clips: ClipShards, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = build_components(tiny())
    stage = {
        "autoencoder": lambda: AutoencoderStage(parts["vae"], clips, frames=(5,), photos=1.0),
        "geometry": lambda: GeometryStage(parts["vggt"], clips, frames=(4,)),
        "adapter": lambda: AdapterStage(parts["geo_adapter"], parts["vggt"], parts["vae"], clips, frames=(5,)),
    }[name]()
    before = {n: p.detach().clone() for n, p in stage.named_parameters()}
    train(stage, TrainConfig(steps=2, batch_size=1 if name == "autoencoder" else 5, learning_rate=1e-3), tmp_path)
    moved = {n for n, p in stage.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in stage.named_parameters() if p.requires_grad}
    assert moved <= trained
    assert len(moved) > 0.8 * len(trained)


def test_diffusion_stage_from_cached_latents(clips: ClipShards, tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    encoders = [clip_encoder(half, pipe.components, 16) for half in HALVES]
    encode_clips(encoders, clips, tmp_path / "latents")
    models = encoders[0].models | encoders[1].models
    latents = LatentShards(tmp_path / "latents", models, clips.shape, clips)
    stage = DiffusionStage(
        pipe.transformer, pipe.text_encoder, pipe.image_encoder, pipe.tokenizer, pipe.vae, latents, 16
    )
    before = pipe.transformer.proj_out.weight.detach().clone()
    train(stage, TrainConfig(steps=2, batch_size=2, learning_rate=1e-3), tmp_path / "run")
    assert not torch.equal(pipe.transformer.proj_out.weight, before)
