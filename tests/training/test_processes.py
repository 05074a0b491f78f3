"""Two processes (gloo, on the CPU) train as one does, whole or sharded, and read each other's checkpoints."""

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.logs import read_metrics
from gen3r.training.engine.loop import train
from gen3r.training.engine.sharding import share_tokens
from gen3r.training.engine.trainer import Trainer
from tests.training.stages import NAMES, Regression, tiny_config, tiny_stage

TOLERANCE = 1e-5


def run_rank(rank: int, port: int, name: str, data: Path, config: TrainConfig, folder: Path) -> None:
    """What each of two processes does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    torch.accelerator.device_count = lambda: 1  # diffusers' engine divides by it, and a machine may have none
    train(tiny_stage(name, data), config, folder)
    torch.distributed.destroy_process_group()


def on_two_processes(name: str, data: Path, config: TrainConfig, folder: Path) -> None:
    """Trains a stage on two processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_processes"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=run_rank, args=(r, port, name, data, config, folder)) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder)]


@pytest.mark.parametrize("name", NAMES)
def test_data_parallel_gives_the_curve_of_one_process(name: str, training_data: Path, tmp_path: Path) -> None:
    config = tiny_config(name, steps=4, micro_batches=2)
    train(tiny_stage(name, training_data), config, tmp_path / "one")
    on_two_processes(name, training_data, config, tmp_path / "two")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=TOLERANCE)


def test_sharded_gives_the_curve_of_one_process(training_data: Path, tmp_path: Path) -> None:
    config = tiny_config("diffusion", steps=4, micro_batches=2, optimizer="adamw")
    train(tiny_stage("diffusion", training_data), config, tmp_path / "one")
    on_two_processes("diffusion", training_data, replace(config, shard=True), tmp_path / "two")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=TOLERANCE)


@pytest.mark.parametrize("shard", [False, True])
def test_shared_tokens_give_the_curve_of_one_process(shard: bool, training_data: Path, tmp_path: Path) -> None:
    config = tiny_config("diffusion", steps=4, micro_batches=2, optimizer="adamw")
    train(tiny_stage("diffusion", training_data), config, tmp_path / "one")
    on_two_processes("diffusion", training_data, replace(config, context_parallel=2, shard=shard), tmp_path / "two")
    for name in ("loss", "norm"):  # AdamW does not mind the scale of gradients; their norm tells it
        one, two = ([line[name] for line in read_metrics(tmp_path / n)] for n in ("one", "two"))
        assert two == pytest.approx(one, rel=TOLERANCE)


def test_tokens_that_cannot_be_shared(training_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 processes are no groups of 2"):
        train(Regression(), tiny_config("regression", context_parallel=2), tmp_path)
    with pytest.raises(InputError, match="trains no transformer"):
        share_tokens(Regression(), 2, torch.device("cpu"), 2)
    with pytest.raises(InputError, match="2 heads and 490 tokens have no 4 equal parts"):
        share_tokens(tiny_stage("diffusion", training_data), 4, torch.device("cpu"), 4)


def test_a_checkpoint_from_one_goes_on_on_the_other(training_data: Path, tmp_path: Path) -> None:
    """One process, then two with shards, then two with whole weights, then one: the curve of one."""
    config = tiny_config("diffusion", steps=8, micro_batches=2, optimizer="adamw", decay_fraction=0.0)
    train(tiny_stage("diffusion", training_data), config, tmp_path / "one")
    folder = tmp_path / "handed on"
    train(tiny_stage("diffusion", training_data), replace(config, steps=2), folder)
    on_two_processes("diffusion", training_data, replace(config, steps=4, shard=True), folder)
    on_two_processes("diffusion", training_data, replace(config, steps=6), folder)
    with pytest.warns(UserWarning, match="goes on at step 6 with steps 6 -> 8"):
        train(tiny_stage("diffusion", training_data), config, folder)
    assert losses(folder) == pytest.approx(losses(tmp_path / "one"), rel=TOLERANCE)


def test_shards_need_several_processes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shards need several processes"):
        train(Regression(), tiny_config("regression", shard=True), tmp_path)


def test_engines_with_steps_of_their_own() -> None:
    accelerator = Accelerator()
    before = accelerator.state.distributed_type
    accelerator.state.distributed_type = DistributedType.DEEPSPEED
    try:
        with pytest.raises(InputError, match="step by themselves; launch without them"):
            Trainer(Regression(), tiny_config("regression"), accelerator)
    finally:
        accelerator.state.distributed_type = before
