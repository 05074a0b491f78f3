"""Checkpoints: whole or not there, kept, damaged, old, and after a kill."""

import json
import multiprocessing
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gen3r.errors import InputError
from gen3r.training.engine.checkpoint import CHECKPOINT, load_average
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.loop import train
from tests.training.stages import Regression
from tests.training.test_loop import same_files

CONFIG = TrainConfig(steps=30, batch_size=8, learning_rate=1e-2, warmup=3)
EAGER = replace(CONFIG, checkpoint_seconds=0.0)


def saved_step(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def test_averages_load_into_a_module(tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path)
    net = Regression().net
    load_average(tmp_path, net, "net.")
    saved = load_file(tmp_path / CHECKPOINT)
    assert torch.equal(net[0].weight, saved["ema/net.0.weight"])
    assert not torch.equal(net[0].weight, saved["model/net.0.weight"])
    with pytest.raises(InputError, match="train that stage first"):
        load_average(tmp_path / "none", net, "net.")


def test_the_newest_two_and_every_nth_are_kept(tmp_path: Path) -> None:
    train(Regression(), replace(EAGER, keep_every=10), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    kept = [f"checkpoint-{step:07d}.safetensors" for step in (10, 20, 29)]
    assert names == [*kept, CHECKPOINT, "metrics.jsonl"]
    assert [saved_step(tmp_path / name) for name in (*kept, CHECKPOINT)] == [10, 20, 29, 30]


@pytest.mark.parametrize("kept", [True, False])
def test_a_damaged_checkpoint_says_which_one_is_whole(kept: bool, tmp_path: Path) -> None:
    train(Regression(), replace(CONFIG, keep_every=10 if kept else 0), tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    way = "copy checkpoint-0000020.safetensors over it" if kept else "remove it to start the stage anew"
    with pytest.raises(InputError, match=f"checkpoint.safetensors is damaged .*{way}"):
        train(Regression(), CONFIG, tmp_path)
    with pytest.raises(InputError, match="is damaged"):
        load_average(tmp_path, Regression().net, "net.")
    if kept:
        path.write_bytes((tmp_path / "checkpoint-0000020.safetensors").read_bytes())
        train(Regression(), replace(CONFIG, keep_every=10), tmp_path)
        train(Regression(), replace(CONFIG, keep_every=10), tmp_path / "whole")
        assert same_files(tmp_path, tmp_path / "whole")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write more than `size` bytes to a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    longer = replace(CONFIG, steps=40)
    with (
        pytest.warns(UserWarning, match="steps 30 -> 40"),
        files_of_at_most(len(before) - 1000),
        pytest.raises(InputError, match=r"cannot write .*free space; the checkpoint of step 30 is whole"),
    ):
        train(Regression(), longer, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, "metrics.jsonl"]
    with pytest.warns(UserWarning, match="steps 30 -> 40"):
        train(Regression(), longer, tmp_path)
    assert saved_step(tmp_path / CHECKPOINT) == 40


def test_checkpoints_of_the_first_version_go_on(tmp_path: Path) -> None:
    """They knew fewer settings; their tensors were the same."""
    train(Regression(), CONFIG, tmp_path)
    path = tmp_path / CHECKPOINT
    settings = ("steps", "batch_size", "learning_rate", "weight_decay", "warmup", "decay_fraction", "ema_decay",
                "clip_norm", "seed", "checkpoint_seconds")  # fmt: skip
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    config = {name: json.loads(metadata["config"])[name] for name in settings}
    save_file(load_file(path), path, {"step": "30", "stage": "regression", "config": json.dumps(config)})
    with pytest.warns(UserWarning, match=r"goes on at step 30 with steps 30 -> 31$"):
        train(Regression(), replace(CONFIG, steps=31), tmp_path)
    assert saved_step(path) == 31


def train_forever(folder: Path) -> None:
    """What the killed process does."""
    torch.set_num_threads(1)
    train(Regression(), replace(EAGER, steps=100_000, warmup=0, decay_fraction=1e-9, log_every=1), folder)


def kill_and_go_on(folder: Path, kills: int) -> int:
    """Trains in a process that is killed at random moments; returns the step that was reached.

    A checkpoint a step: at most the step at work is lost.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_checkpoint"])
    reached = 0
    for seed in range(kills):
        process = context.Process(target=train_forever, args=(folder,))
        process.start()
        while not (folder / CHECKPOINT).exists() or saved_step(folder / CHECKPOINT) == reached:
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.kill()
        process.join()
        logged = (folder / "metrics.jsonl").read_text().splitlines()
        saved = saved_step(folder / CHECKPOINT)
        assert saved > reached
        assert json.loads(logged[-1])["step"] <= saved  # the step at work may have been logged, and is lost
        reached = saved
    return reached


def test_kills_at_random_moments(tmp_path: Path) -> None:
    reached = kill_and_go_on(tmp_path / "killed", kills=5)
    last = replace(CONFIG, steps=reached + 1, warmup=0, decay_fraction=1e-9)
    with pytest.warns(UserWarning, match="goes on at step"):
        train(Regression(), last, tmp_path / "killed")
    train(Regression(), last, tmp_path / "whole")
    assert same_files(tmp_path / "killed", tmp_path / "whole")
