"""What a run would take: parameters, memory, steps, schedule and time, from one measured step; nothing is written."""

import resource
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from gen3r.training.engine.checkpoint import Checkpoint, saved_step
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.trainer import Trainer
from gen3r.training.stages.stage import Stage


def plan(stage: Stage, config: TrainConfig, folder: Path) -> list[str]:
    """Lines for people. `stage` is trained for a step, and of no use after it.

    Raises:
        InputError: as `train`.
    """
    accelerator = Accelerator()
    trainer = Trainer(stage, config, accelerator)
    config, device = trainer.config, accelerator.device
    start = max(saved_step(folder), config.first_step)
    average = Checkpoint(folder, trainer.stage, trainer.optimizer.optimizer, config)
    micro_batches = trainer.draw(start)
    for _ in range(2):  # the first step warms up
        began = time.perf_counter()
        trainer.backward(micro_batches)
        trainer.update(start)
        average.update_ema(start)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
    seconds, left = time.perf_counter() - began, max(config.steps - start, 0)
    rates = sorted({0, min(config.warmup, config.steps - 1), config.steps // 2, config.steps - 1})
    return [
        f"{stage.name}: {accelerator.num_processes} process(es) on {device.type}, products in {trainer.dtype}",
        *_parameters(trainer.stage),
        f"batch: {config.batch_size} = {config.micro_batches} micro-batch(es) of "
        f"{config.batch_size // config.micro_batches}",
        f"steps: {start} to {config.steps}, {left * config.batch_size} samples",
        f"learning rate: {config.schedule}, "
        + ", ".join(f"{config.learning_rate_at(step):.3g} at {step}" for step in rates)
        + f"; {config.optimizer}, weight decay {config.weight_decay:g}",
        f"memory per process: {_peak_memory(device) / 2**30:.2f} GiB at the most, as measured",
        f"time: {seconds:.2f} s per step as measured, {left * seconds / 3600:.2f} hours without checkpoints and sheets"
        + (f"; the clock ends a launch after {config.minutes / 60:.2f}" if config.minutes else ""),
    ]


def _parameters(stage: Stage) -> list[str]:
    lines = []
    for name, module in stage.named_children():
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in module.parameters()) - trained
        lines.append(f"parameters of {name}: {trained / 1e6:.2f} M trained, {frozen / 1e6:.2f} M frozen")
    return lines


def _peak_memory(device: torch.device) -> int:
    """Bytes that this process has taken at the most, on an accelerator or in all."""
    if device.type == "cpu":
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return torch.get_device_module(device).max_memory_allocated(device)
