"""Checkpoints: whole or not there, kept, damaged, and after a kill."""

import itertools
import multiprocessing
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gen3r.errors import InputError
from gen3r.training.engine.checkpoint import CHECKPOINT, load_average, saved_step
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.loop import train
from tests.training.engine.test_loop import same_files
from tests.training.stages import Regression

CONFIG = TrainConfig(steps=30, batch_size=8, learning_rate=1e-2, warmup=3)


def ticking() -> Callable[[], float]:
    """A clock that passes a second whenever it is asked."""
    seconds = itertools.count()
    return lambda: next(seconds)


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
    train(Regression(), replace(CONFIG, checkpoint_seconds=0.0, keep_every=10), tmp_path, clock=ticking())
    names = sorted(path.name for path in tmp_path.iterdir())
    kept = [f"checkpoint-{step:07d}.safetensors" for step in (10, 20, 29)]
    assert names == [*kept, CHECKPOINT, "metrics.jsonl"]
    assert [saved_step(tmp_path, name) for name in (*kept, CHECKPOINT)] == [10, 20, 29, 30]


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


@pytest.mark.parametrize("change", ["lost", "unknown"])
def test_a_partly_lost_optimizer_is_refused_by_name(change: str, tmp_path: Path) -> None:
    train(Regression(), CONFIG, tmp_path)
    path, name = tmp_path / CHECKPOINT, "optimizer/net.0.weight/exp_avg"
    with safe_open(path, "pt") as file:
        tensors, metadata = {n: file.get_tensor(n) for n in file.keys()}, file.metadata()
    if change == "lost":
        del tensors[name]
        message = "has no optimizer state net.0.weight/exp_avg"
    else:
        tensors["optimizer/other.weight/exp_avg"] = tensors[name].clone()
        message = "has an unknown optimizer state other.weight/exp_avg"
    save_file(tensors, path, metadata)
    stage = Regression()
    with (
        pytest.warns(UserWarning, match="steps 30 -> 40"),
        pytest.raises(InputError, match=rf"{CHECKPOINT} {message}.*choose another folder"),
    ):
        train(stage, replace(CONFIG, steps=40), tmp_path)
    assert torch.equal(stage.net[0].weight, Regression().net[0].weight)


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
    assert saved_step(tmp_path) == 40


def _train_until_killed(folder: Path, moment: str) -> None:
    """Trains in a process that is killed while it computes a step, or in the middle of writing a checkpoint."""
    torch.set_num_threads(1)
    stage, calls = Regression(), itertools.count()

    def kill(*_: object) -> None:
        if next(calls) < 5:
            return
        if moment == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    stage.register_forward_pre_hook(kill)
    train(stage, replace(CONFIG, keep_every=1), folder)


@pytest.mark.parametrize("moment", ["step", "write"])
def test_a_killed_run_goes_on(moment: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.stages"])
    process = context.Process(target=_train_until_killed, args=(tmp_path / "killed", moment))
    process.start()
    process.join()
    assert process.exitcode == -(signal.SIGKILL if moment == "step" else signal.SIGXFSZ)
    assert saved_step(tmp_path / "killed") == 5
    assert any((tmp_path / "killed").glob(".*")) == (moment == "write")
    for name in ("killed", "whole"):
        train(Regression(), replace(CONFIG, keep_every=1), tmp_path / name)
    assert same_files(tmp_path / "killed", tmp_path / "whole")
    assert not any((tmp_path / "killed").glob(".*"))


def test_others_may_read_a_checkpoint_where_the_person_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        train(Regression(), CONFIG, tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / CHECKPOINT).stat().st_mode) == 0o644
