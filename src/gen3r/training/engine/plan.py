"""What a run would take: parameters, memory, steps, schedule and time, from one measured step; nothing is written."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gen3r.training.engine.checkpoint import saved_step
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.optimizers import state_tensors
from gen3r.training.engine.trainer import Trainer
from gen3r.training.stages.stage import Stage


def plan(stage: Stage, config: TrainConfig, folder: Path) -> list[str]:
    """Lines for people. `stage` is trained for one step, and of no use after it.

    Raises:
        InputError: as `train`.
    """
    accelerator = Accelerator()
    trainer = Trainer(stage, config, accelerator)
    config, device = trainer.config, accelerator.device
    start = max(saved_step(folder), config.first_step)
    micro_batches = trainer.draw(start)
    with _kept_for_backward(trainer.stage) as kept:
        trainer.compute(micro_batches[0])
    trainer.drop_gradients()
    began = time.perf_counter()
    trainer.backward(micro_batches)
    trainer.update(start)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    seconds = time.perf_counter() - began
    left = max(config.steps - start, 0)
    trained = [p for p in trainer.stage.parameters() if p.requires_grad]
    memory = {
        "weights": _size(trainer.stage.parameters()),
        "gradients": _size(trained),
        "optimizer": _size(state_tensors(trainer.optimizer.optimizer, trainer.stage).values()),
        "average": _size(trained),
        "activations": sum(kept.values()),
    }
    each = config.batch_size // config.micro_batches
    clock = f"; the clock ends a launch after {config.minutes / 60:.2f}" if config.minutes else ""
    return [
        f"{stage.name}: {accelerator.num_processes} process(es) on {device.type}, products in {trainer.dtype}",
        *_parameters(trainer.stage),
        f"batch: {config.batch_size} = {config.micro_batches} micro-batch(es) of {each}",
        f"steps: {start} to {config.steps}, {left * config.batch_size} samples",
        f"learning rate: {config.schedule}, {_rates(config)}; {config.optimizer}, weight decay {config.weight_decay:g}",
        f"memory per process: {_mebibytes(sum(memory.values()))} = "
        + " + ".join(f"{name} {_mebibytes(size)}" for name, size in memory.items()),
        f"time: {seconds:.2f} s per step as measured, {left * seconds / 3600:.2f} hours without checkpoints and sheets"
        + clock,
    ]


def _parameters(stage: Stage) -> list[str]:
    lines = []
    for name, module in stage.named_children():
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in module.parameters()) - trained
        lines.append(f"parameters of {name}: {trained / 1e6:.2f} M trained, {frozen / 1e6:.2f} M frozen")
    return lines


def _rates(config: TrainConfig) -> str:
    steps = sorted({0, min(config.warmup, config.steps - 1), config.steps // 2, config.steps - 1})
    return ", ".join(f"{config.learning_rate_at(step):.3g} at {step}" for step in steps)


@contextmanager
def _kept_for_backward(stage: nn.Module) -> Iterator[dict[int, int]]:
    """Address -> bytes of what a block's forward passes keep for their backward passes, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def _size(tensors: Iterable[Tensor]) -> int:
    """Bytes on this process."""
    own = (t.to_local() if isinstance(t, DTensor) else t for t in tensors)
    return sum(t.numel() * t.element_size() for t in own)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 2**33 else f"{size / 2**30:.1f} GiB"
