"""The loop: what it learns, how it goes on after a stop, and what it does when something breaks."""

import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
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
from gen3r.training.stages.stage import Stage
from tests.training.stages import NAMES, Regression, tiny_config, tiny_stage

CONFIG = TrainConfig(steps=30, batch_size=8, learning_rate=1e-2, warmup=3)
SLOW = [pytest.param(name, marks=pytest.mark.nightly) for name in NAMES if name not in ("text", "diffusion")]


def same_files(first: Path, second: Path) -> bool:
    """Whether two runs ended with the same checkpoint, bit for bit."""
    ours, theirs = (load_file(folder / CHECKPOINT) for folder in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def interrupted(stage: Stage, at: int, number: int = signal.SIGTERM) -> Stage:
    """The stage, with a signal when it computes its `at`-th micro-batch, from 0."""
    calls = itertools.count()
    stage.register_forward_pre_hook(lambda *_: signal.raise_signal(number) if next(calls) == at else None)
    return stage


def test_it_learns(tmp_path: Path) -> None:
    stage = Regression()
    before = stage(stage.make_batch(np.random.default_rng(0), 64))[0].item()
    train(stage, TrainConfig(steps=150, batch_size=32, learning_rate=1e-2), tmp_path)
    after = stage(stage.make_batch(np.random.default_rng(0), 64))[0].item()
    assert after < 0.2 * before


class TestGoingOn:
    @pytest.mark.parametrize("name", ["text", "diffusion", *SLOW])
    def test_resumed_is_uninterrupted_bit_for_bit(self, name: str, training_data: Path, tmp_path: Path) -> None:
        config = tiny_config(name, steps=2)
        train(tiny_stage(name, training_data), config, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt, match="saved at step 1"):
            train(interrupted(tiny_stage(name, training_data), at=0), config, tmp_path / "parts")
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
        with pytest.raises(KeyboardInterrupt, match="saved at step 10"):
            train(interrupted(Regression(), at=9 * config.micro_batches or 9), config, tmp_path / "parts")
        train(Regression(), config, tmp_path / "parts")
        assert same_files(tmp_path / "whole", tmp_path / "parts")

    def test_a_signal_saves_first(self, tmp_path: Path) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="saved at step 11"):
            train(interrupted(Regression(), at=10), CONFIG, tmp_path)
        assert signal.getsignal(signal.SIGTERM) == before
        assert saved_step(tmp_path) == 11

    def test_steps_done_again_are_logged_once(self, tmp_path: Path) -> None:
        config = replace(CONFIG, log_every=1)
        with pytest.raises(KeyboardInterrupt):
            train(interrupted(Regression(), at=10), config, tmp_path)
        with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('{"step": 11, "loss": 3}\n{"step": 12, "lo')  # what a killed process may leave
        train(Regression(), config, tmp_path)
        lines = read_metrics(tmp_path)
        assert [line["step"] for line in lines] == list(range(30))
        assert lines[11]["loss"] != 3

    def test_a_changed_configuration_is_reported(self, tmp_path: Path) -> None:
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


class TestTime:
    def test_a_run_ends_by_the_clock_and_goes_on(self, tmp_path: Path) -> None:
        """The clock passes a second whenever it is asked: at the start, and twice in a step that is logged."""
        config = replace(CONFIG, steps=10**6, minutes=1.0, log_every=1)
        seconds = itertools.count()
        train(Regression(), config, tmp_path, lambda: Image.new("RGB", (2, 2)), clock=lambda: next(seconds))
        assert saved_step(tmp_path) == 31
        assert (tmp_path / "sheets" / "step-0000031.png").exists()
        seconds = itertools.count()
        train(Regression(), config, tmp_path, clock=lambda: next(seconds))
        assert saved_step(tmp_path) == 62

    def test_speed_is_measured(self, tmp_path: Path) -> None:
        seconds = itertools.count()
        train(Regression(), replace(CONFIG, log_every=10), tmp_path, clock=lambda: next(seconds))
        lines = read_metrics(tmp_path)
        assert [line["samples_per_s"] for line in lines] == pytest.approx([8 / 2, 80 / 11, 80 / 11])
        assert [line["seconds"] for line in lines] == [2, 13, 24]

    def test_checkpoints_are_saved_by_the_clock(self, tmp_path: Path) -> None:
        seconds = itertools.count()
        config = replace(CONFIG, checkpoint_seconds=10.0, log_every=100)
        train(Regression(), config, tmp_path, clock=lambda: next(seconds))
        kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
        assert kept == ["checkpoint-0000021.safetensors"]  # saved after steps 10, 21 and 30; the newest two stay


class TestDraws:
    def test_no_batch_is_drawn_beyond_the_last_step(self, tmp_path: Path) -> None:
        drawn = []

        class Counted(Regression):
            def make_batch(self, rng: np.random.Generator, size: int) -> dict:
                drawn.append(size)
                return super().make_batch(rng, size)

        train(Counted(), replace(CONFIG, steps=5), tmp_path)
        assert len(drawn) == 5

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


class Poisoned(Regression):
    """A regression whose loss is not a number at some steps."""

    def __init__(self, bad: range) -> None:
        super().__init__()
        self.bad, self.calls = bad, 0

    def forward(self, batch: dict) -> tuple[torch.Tensor, dict]:
        loss, report = super().forward(batch)
        poison = float("nan") if self.calls in self.bad else 1.0
        self.calls += 1
        return poison * loss, report


class Unreadable(Regression):
    """A regression whose data is gone at step 5."""

    drawn = 0

    def make_batch(self, rng: np.random.Generator, size: int) -> dict:
        if self.drawn == 5:
            self.fail()
        self.drawn += 1
        return super().make_batch(rng, size)

    def fail(self) -> None:
        Path("/nowhere/clips.safetensors").read_bytes()


class Killed(Unreadable):
    """A regression whose data workers are killed at step 5."""

    def fail(self) -> None:
        list(in_parallel(_kill_worker, [0, 1], 2))


def _kill_worker(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class TestBreakdowns:
    def test_a_step_that_is_not_finite_is_skipped(self, tmp_path: Path) -> None:
        stage = Poisoned(range(4, 7))
        train(stage, replace(CONFIG, log_every=1), tmp_path)
        lines = read_metrics(tmp_path)
        assert [line["step"] for line in lines] == [n for n in range(30) if n not in stage.bad]
        assert lines[-1]["skipped"] == 3

    def test_weights_that_are_not_finite_are_not_saved(self, tmp_path: Path) -> None:
        stage = Regression()
        next(stage.parameters()).data.fill_(torch.inf)
        with pytest.raises(InputError, match=r"weights are not finite after step 1, .* with a lower --learning-rate"):
            train(stage, replace(CONFIG, steps=1), tmp_path)
        assert not (tmp_path / CHECKPOINT).exists()

    def test_too_many_in_a_row_stop_the_run_and_change_nothing(self, tmp_path: Path) -> None:
        stage = Poisoned(range(100))
        with pytest.raises(InputError, match=r"in 10 steps in a row, up to 9; go on from the checkpoint"):
            train(stage, CONFIG, tmp_path)
        for ours, fresh in zip(stage.parameters(), Regression().parameters(), strict=True):
            assert torch.equal(ours, fresh)
        assert not (tmp_path / CHECKPOINT).exists()

    @pytest.mark.parametrize(
        ("kind", "error"),
        [(Unreadable, "FileNotFoundError"), pytest.param(Killed, "BrokenProcessPool", marks=pytest.mark.nightly)],
    )
    def test_lost_data_stops_the_run_which_goes_on(self, kind: type[Regression], error: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=rf"the data of step 5 could not be made .{error}"):
            train(kind(), replace(CONFIG, keep_every=2), tmp_path)
        train(Regression(), replace(CONFIG, keep_every=2), tmp_path)
        train(Regression(), replace(CONFIG, keep_every=2), tmp_path / "whole")
        assert same_files(tmp_path, tmp_path / "whole")


class TestReports:
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


@pytest.mark.parametrize("name", ["text", *(pytest.param(n, marks=pytest.mark.nightly) for n in NAMES if n != "text")])
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
        config = tiny_config("diffusion", steps=1, gradient_checkpointing=choice)
        train(tiny_stage("diffusion", training_data), config, tmp_path / folder)
    assert same_files(tmp_path / "kept", tmp_path / "again")
    with pytest.raises(InputError, match="supports gradient checkpointing"):
        train(Regression(), replace(CONFIG, gradient_checkpointing=True), tmp_path / "none")
