"""The loop: what it learns, how it goes on after a stop, and what it does when something breaks."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from gen3r.data.workers import in_parallel
from gen3r.errors import InputError
from gen3r.training.engine.checkpoint import CHECKPOINT, saved_step
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.logs import read_metrics
from gen3r.training.engine.loop import train
from gen3r.training.engine.optimizers import MuonAdamW, state_tensors
from gen3r.training.engine.trainer import Trainer
from gen3r.training.stages.stage import Stage
from tests.tiny import tiny_pipeline
from tests.training.stages import NAMES, Regression, tiny_config, tiny_stage

CONFIG = TrainConfig(steps=30, batch_size=8, learning_rate=1e-2, warmup=3)


def same_files(first: Path, second: Path) -> bool:
    """Whether two runs ended with the same checkpoint, bit for bit."""
    ours, theirs = (load_file(folder / CHECKPOINT) for folder in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def interrupted(stage: Stage, at: int, number: int = signal.SIGTERM) -> Stage:
    """The stage, with a signal when it computes its `at`-th micro-batch, after the pass that counts operations."""
    calls = iter(range(1000))
    stage.register_forward_pre_hook(lambda *_: signal.raise_signal(number) if next(calls) == at else None)
    return stage


def test_it_learns(tmp_path: Path) -> None:
    stage = Regression()
    before = stage(stage.make_batch(np.random.default_rng(0), 64))[0].item()
    train(stage, TrainConfig(steps=150, batch_size=32, learning_rate=1e-2), tmp_path)
    after = stage(stage.make_batch(np.random.default_rng(0), 64))[0].item()
    assert after < 0.2 * before


class TestGoingOn:
    @pytest.mark.parametrize("name", NAMES)
    def test_resumed_is_uninterrupted_bit_for_bit(self, name: str, training_data: Path, tmp_path: Path) -> None:
        config = tiny_config(name, steps=3)
        train(tiny_stage(name, training_data), config, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt, match="saved at step 2"):
            train(interrupted(tiny_stage(name, training_data), at=2), config, tmp_path / "parts")
        train(tiny_stage(name, training_data), config, tmp_path / "parts")
        assert same_files(tmp_path / "whole", tmp_path / "parts")
        whole, parts = (read_metrics(tmp_path / n) for n in ("whole", "parts"))
        assert [m["loss"] for m in whole] == [m["loss"] for m in parts]

    @pytest.mark.parametrize(
        "changes", [{"micro_batches": 4}, {"optimizer": "adamw", "schedule": "cosine", "floor": 0.2}]
    )
    def test_also_with_other_choices(self, changes: dict, tmp_path: Path) -> None:
        config = replace(CONFIG, **changes)
        train(Regression(), config, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt, match="saved at step"):
            train(interrupted(Regression(), at=37 if "micro_batches" in changes else 11), config, tmp_path / "parts")
        train(Regression(), config, tmp_path / "parts")
        assert same_files(tmp_path / "whole", tmp_path / "parts")

    def test_a_signal_saves_first(self, tmp_path: Path) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="saved at step 11"):
            train(interrupted(Regression(), at=11), CONFIG, tmp_path)
        assert signal.getsignal(signal.SIGTERM) == before
        with safe_open(tmp_path / CHECKPOINT, "pt") as file:
            assert file.metadata()["step"] == "11"

    def test_steps_done_again_are_logged_once(self, tmp_path: Path) -> None:
        config = replace(CONFIG, log_every=1)
        with pytest.raises(KeyboardInterrupt):
            train(interrupted(Regression(), at=11), config, tmp_path)
        with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('{"step": 11, "loss": 3}\n{"step": 12, "lo')  # what a killed process may leave
        train(Regression(), config, tmp_path)
        lines = read_metrics(tmp_path)
        assert [line["step"] for line in lines] == list(range(30))
        assert lines[11]["loss"] != 3

    def test_a_changed_configuration_is_told(self, tmp_path: Path) -> None:
        train(Regression(), CONFIG, tmp_path)
        with pytest.warns(UserWarning, match="at step 30 with steps 30 -> 40, learning_rate 0.01 -> 0.003"):
            train(Regression(), replace(CONFIG, steps=40, learning_rate=3e-3), tmp_path)
        with safe_open(tmp_path / CHECKPOINT, "pt") as file:
            assert json.loads(file.metadata()["config"])["steps"] == 40

    def test_fewer_steps_than_were_done_change_nothing(self, tmp_path: Path) -> None:
        train(Regression(), CONFIG, tmp_path)
        before = (tmp_path / CHECKPOINT).read_bytes()
        with pytest.warns(UserWarning, match="steps 30 -> 10"):
            train(Regression(), replace(CONFIG, steps=10), tmp_path)
        assert (tmp_path / CHECKPOINT).read_bytes() == before

    def test_another_stage_size_or_optimizer_is_refused(self, tmp_path: Path) -> None:
        train(Regression(), CONFIG, tmp_path)

        class Other(Regression):
            name = "other"

        with pytest.raises(InputError, match="belongs to stage regression"):
            train(Other(), CONFIG, tmp_path)
        wider = Regression()
        wider.net[2] = nn.Linear(32, 33)
        with pytest.raises(InputError, match="other model sizes"):
            train(wider, CONFIG, tmp_path)
        with pytest.raises(InputError, match="state of the optimizer muon"):
            train(Regression(), replace(CONFIG, optimizer="adamw"), tmp_path)


class TestMicroBatches:
    def test_gradients_are_those_of_the_mean_loss(self, tmp_path: Path) -> None:
        """Two micro-batches are one batch of both, as long as nothing draws noise."""

        class Plain(Regression):
            def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
                return (self.net(batch["x"]) - batch["x"].flip(-1)).square().mean(), {}

        class Joined(Plain):
            def make_batch(self, rng: np.random.Generator, size: int) -> dict:
                seed = [CONFIG.seed, self.step]
                self.step += 1
                halves = [Plain.make_batch(self, np.random.default_rng([*seed, part]), size // 2) for part in (0, 1)]
                return {"x": torch.cat([half["x"] for half in halves])}

            step = 0

        config = replace(CONFIG, optimizer="adamw", mixed_precision=False, log_every=1)
        train(Plain(), replace(config, micro_batches=2), tmp_path / "halves")
        train(Joined(), config, tmp_path / "joined")
        halves, joined = ([m["loss"] for m in read_metrics(tmp_path / n)] for n in ("halves", "joined"))
        assert halves == pytest.approx(joined, rel=1e-4)

    def test_they_must_be_equal(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no 3 equal parts"):
            train(Regression(), replace(CONFIG, micro_batches=3), tmp_path)
        with pytest.raises(InputError, match="4 processes cannot share 6"):
            replace(CONFIG, micro_batches=6).shared_by(4)
        assert replace(CONFIG).shared_by(4).micro_batches == 4


class Poisoned(Regression):
    """A regression whose loss is not a number at some steps; the pass that counts operations comes before the first."""

    def __init__(self, bad: range) -> None:
        super().__init__()
        self.bad, self.calls = bad, -1

    def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
        loss, report = super().forward(batch)
        poison = float("nan") if self.calls in self.bad else 1.0
        self.calls += 1
        return poison * loss, report


class TestBreakdowns:
    def test_a_step_that_is_not_finite_is_skipped_and_kept(self, tmp_path: Path) -> None:
        stage = Poisoned(range(4, 7))
        train(stage, replace(CONFIG, log_every=1), tmp_path)
        lines = read_metrics(tmp_path)
        assert [line["step"] for line in lines] == [n for n in range(30) if n not in stage.bad]
        assert lines[-1]["skipped"] == 3
        [kept] = tmp_path.glob("nonfinite-*")
        assert kept.name == "nonfinite-0000004-0.safetensors"
        rng = np.random.default_rng([CONFIG.seed, 4, 0])
        assert torch.equal(load_file(kept)["0/x"], stage.make_batch(rng, 8)["x"])
        with safe_open(kept, "pt") as file:
            assert json.loads(file.metadata()["noise_seeds"]) == [int(rng.integers(2**62))]

    def test_too_many_in_a_row_stop_the_run_and_change_nothing(self, tmp_path: Path) -> None:
        stage = Poisoned(range(100))
        with pytest.raises(InputError, match=r"in 10 steps in a row, up to 9; the first batch is in .*nonfinite"):
            train(stage, CONFIG, tmp_path)
        for ours, fresh in zip(stage.parameters(), Regression().parameters(), strict=True):
            assert torch.equal(ours, fresh)
        assert not (tmp_path / CHECKPOINT).exists()

    def test_a_dead_data_worker(self, tmp_path: Path) -> None:
        class Killed(Regression):
            def make_batch(self, rng: np.random.Generator, size: int) -> dict:
                if self.drawn == 5:
                    list(in_parallel(_kill_worker, [0, 1], 2))
                self.drawn += 1
                return super().make_batch(rng, size)

            drawn = 0

        with pytest.raises(InputError, match=r"the data of step 5 could not be made .BrokenProcessPool"):
            train(Killed(), replace(CONFIG, keep_every=2), tmp_path)
        train(Regression(), replace(CONFIG, keep_every=2), tmp_path)
        train(Regression(), replace(CONFIG, keep_every=2), tmp_path / "whole")
        assert same_files(tmp_path, tmp_path / "whole")

    def test_tensorboard(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        train(Regression(), CONFIG, tmp_path, trackers=["tensorboard"])
        events = EventAccumulator(str(tmp_path / "regression")).Reload()
        written = [event.value for event in events.Scalars("loss")]
        assert written == pytest.approx([line["loss"] for line in read_metrics(tmp_path)])

    def test_missing_trackers(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="the trackers are tensorboard, wandb, not slate"):
            train(Regression(), CONFIG, tmp_path, trackers=["slate"])


def _kill_worker(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class TestReports:
    def test_attention_is_counted(self) -> None:
        class Attending(Regression):
            def __init__(self) -> None:
                super().__init__()
                self.x = nn.Parameter(torch.randn(2, 4, 8, 16))

            def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
                return F.scaled_dot_product_attention(self.x, self.x, self.x).square().mean(), {}

        trainer = Trainer(Attending(), tiny_config("regression"), Accelerator())
        product = 2 * 2 * 4 * 8 * 8 * 16
        assert trainer.count_flops(trainer.draw(0)) >= 6 * product  # two forward, four or more backward

    def test_speed_is_measured(self, tmp_path: Path) -> None:
        train(Regression(), replace(CONFIG, log_every=10), tmp_path)
        lines = read_metrics(tmp_path)
        assert len(lines) == 3
        assert all(line["samples_per_s"] > 0 and 0 < line["mfu"] < 1 for line in lines)

    def test_sheets_show_the_averages_and_leave_training_alone(self, tmp_path: Path) -> None:
        stage, seen = Regression(), []

        def sheet() -> Image.Image:
            seen.append(stage.net[0].weight.detach().clone())
            assert not stage.training
            torch.randn(3)
            return Image.new("RGB", (4, 4))

        config = replace(CONFIG, sheet_every=10)
        train(stage, config, tmp_path / "drawn", sheet)
        train(Regression(), config, tmp_path / "plain")
        assert same_files(tmp_path / "drawn", tmp_path / "plain")
        drawn = sorted(path.name for path in (tmp_path / "drawn" / "sheets").iterdir())
        assert drawn == ["step-0000010.png", "step-0000020.png", "step-0000030.png"]
        assert torch.equal(seen[-1], load_file(tmp_path / "drawn" / CHECKPOINT)["ema/net.0.weight"])
        assert stage.training


@pytest.mark.parametrize("name", NAMES)
def test_stages_train_what_they_say(name: str, training_data: Path, tmp_path: Path) -> None:
    stage = tiny_stage(name, training_data)
    before = {n: p.detach().clone() for n, p in stage.named_parameters()}
    train(stage, tiny_config(name, steps=2), tmp_path)
    moved = {n for n, p in stage.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in stage.named_parameters() if p.requires_grad}
    assert moved <= trained
    assert len(moved) > 0.8 * len(trained)


def test_gradient_checkpointing_computes_the_same(training_data: Path, tmp_path: Path) -> None:
    for folder, choice in (("kept", False), ("again", True)):
        config = tiny_config("diffusion", steps=2, gradient_checkpointing=choice)
        train(tiny_stage("diffusion", training_data), config, tmp_path / folder)
    assert same_files(tmp_path / "kept", tmp_path / "again")
    with pytest.raises(InputError, match="supports gradient checkpointing"):
        train(Regression(), replace(CONFIG, gradient_checkpointing=True), tmp_path / "none")


def test_schedules() -> None:
    plain = TrainConfig(steps=100, batch_size=1, learning_rate=2.0, warmup=10, decay_fraction=0.2)
    rates = [plain.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:81] == [2.0] * 72
    assert rates[90] == pytest.approx(1.0)
    assert plain.learning_rate_at(100) == 0
    cosine = replace(plain, schedule="cosine", floor=0.2)
    rates = [cosine.learning_rate_at(step) for step in range(101)]
    assert rates[4] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.2 * 2 + 0.8 * 2 / 2)
    assert rates[100] == pytest.approx(0.4)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    timed = replace(plain, steps=10**6, minutes=2.0)
    assert [timed.learning_rate_at(500, timed.spent(s)) for s in (0, 60, 90)] == [2.0] * 3
    assert timed.learning_rate_at(500, timed.spent(108)) == pytest.approx(1.0)
    assert timed.learning_rate_at(500, timed.spent(121)) == 0
    assert replace(cosine, steps=10**6, minutes=2.0).learning_rate_at(500, 0.5) == pytest.approx(1.2)


def test_a_run_ends_by_the_clock_and_goes_on(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=10**6, minutes=0.02, log_every=1)
    began = time.monotonic()
    train(Regression(), config, tmp_path, sheet=lambda: Image.new("RGB", (2, 2)))
    first = saved_step(tmp_path)
    assert 0 < first < config.steps
    assert (tmp_path / "sheets" / f"step-{first:07d}.png").exists()
    assert 1 < time.monotonic() - began < 30
    train(Regression(), config, tmp_path)
    assert saved_step(tmp_path) > first


def test_muon_shares_memory_with_convolutions() -> None:
    conv = nn.Conv3d(16, 32, 3)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)
    optimizer = MuonAdamW(conv, 0.1, 0.0)
    before = conv.weight.detach().clone()
    conv(torch.randn(1, 16, 3, 3, 3)).sum().backward()
    optimizer.step()
    assert (conv.weight - before).abs().max() > 1e-4
    assert any("momentum_buffer" in name for name in state_tensors(optimizer, conv))


def test_distances_of_words_move_faster_than_their_embeddings() -> None:
    encoder = tiny_pipeline().text_encoder.float().requires_grad_(True)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = MuonAdamW(encoder, 1e-3, 0.0)
    encoder(input_ids=torch.arange(8)[None]).last_hidden_state.square().sum().backward()
    optimizer.step()
    moved = {name: (p - before[name]).abs().max().item() for name, p in encoder.named_parameters()}
    distances = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert moved["shared.weight"] == pytest.approx(1e-3, rel=1e-2)
    assert moved[distances] == pytest.approx(1e-2, rel=1e-2)


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
