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
from gen3r.training.engine.trainer import Trainer
from tests.training.stages import NAMES, Regression, tiny_config, tiny_stage

TOLERANCE = 1e-5


def _run_rank(rank: int, port: int, name: str, data: Path, configs: list[TrainConfig], folder: Path) -> None:
    """What each of two processes does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    for config in configs:
        train(tiny_stage(name, data), config, folder)
    torch.distributed.destroy_process_group()


def on_two_processes(name: str, data: Path, configs: list[TrainConfig], folder: Path) -> None:
    """Trains a stage on two processes, with one configuration after the other."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.stages"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=_run_rank, args=(r, port, name, data, configs, folder)) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder)]


@pytest.mark.parametrize("name", ["text", *(pytest.param(n, marks=pytest.mark.nightly) for n in NAMES if n != "text")])
def test_data_parallel_gives_the_curve_of_one_process(name: str, training_data: Path, tmp_path: Path) -> None:
    config = tiny_config(name, steps=3, micro_batches=2)
    train(tiny_stage(name, training_data), config, tmp_path / "one")
    on_two_processes(name, training_data, [config], tmp_path / "two")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=TOLERANCE)


def test_a_checkpoint_from_one_goes_on_on_the_other(training_data: Path, tmp_path: Path) -> None:
    """One process, then two with shards, then two with whole weights, then one: the curve of one."""
    config = tiny_config("diffusion", steps=4, micro_batches=2, batch_size=2, optimizer="adamw", decay_fraction=0.0)
    train(tiny_stage("diffusion", training_data), config, tmp_path / "one")
    folder = tmp_path / "handed on"
    train(tiny_stage("diffusion", training_data), replace(config, steps=1), folder)
    on_two_processes(
        "diffusion", training_data, [replace(config, steps=2, shard=True), replace(config, steps=3)], folder
    )
    with pytest.warns(UserWarning, match="goes on at step 3 with steps 3 -> 4"):
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
