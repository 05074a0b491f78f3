"""The loop that every stage shares: steps, checkpoints, resumption, metrics."""

import json
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from gen3r.errors import InputError
from gen3r.models.precision import fast_products
from gen3r.training.optimizers import MuonAdamW

Batch = dict[str, Any]
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a stage is run. The learning rate warms up, stays, and falls linearly to zero over the last part."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 100
    decay_fraction: float = 0.25
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0
    checkpoint_seconds: float = 180.0

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        left = (self.steps - step) / max(self.steps * self.decay_fraction, 1)
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1), max(left, 0.0))


class Stage(nn.Module, ABC):
    """What is trained and how: the batch of a step and its loss. Parameters that require gradients are trained."""

    name: str

    @abstractmethod
    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch drawn with `rng` alone, on the CPU."""

    @abstractmethod
    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and what to report beside it."""


def train(stage: Stage, config: TrainConfig, folder: Path) -> None:
    """Trains `stage` to `config.steps`, from the checkpoint in `folder` if there is one.

    A step's data and noise depend on (seed, step, rank) alone: a resumed run repeats an uninterrupted one.
    """
    accelerator = Accelerator()
    folder.mkdir(parents=True, exist_ok=True)
    set_seed(config.seed)
    optimizer = MuonAdamW(stage, config.learning_rate, config.weight_decay)
    state = Checkpoint(folder, stage, optimizer, config)
    start = state.load()
    model, wrapped = accelerator.prepare(stage, optimizer)
    rank, main = accelerator.process_index, accelerator.is_main_process
    saved = began = time.monotonic()

    def draw(step: int) -> Batch:
        return stage.make_batch(np.random.default_rng([config.seed, step, rank]), config.batch_size)

    with (
        ThreadPoolExecutor(1) as prefetcher,
        tqdm(total=config.steps, initial=start, desc=stage.name, unit="step", disable=not main, mininterval=5) as bar,
        open(folder / "metrics.jsonl", "a", encoding="utf-8") as log,
        _stop_signals() as stopped,
    ):
        following = prefetcher.submit(draw, start)
        for step in range(start, config.steps):
            batch, following = following.result(), prefetcher.submit(draw, step + 1)
            torch.manual_seed(config.seed * 1_000_003 + step * 131 + rank)
            optimizer.param_groups[0]["lr"] = config.learning_rate_at(step)
            with fast_products(accelerator.device):
                loss, report = model(_to_device(batch, accelerator.device))
            accelerator.backward(loss)
            norm = torch.as_tensor(accelerator.clip_grad_norm_(stage.parameters(), config.clip_norm))
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                wrapped.zero_grad()
                continue
            wrapped.step()
            wrapped.zero_grad()
            state.update_ema(step)
            bar.update()
            if main and step % 20 == 0:
                values = {k: round(float(v), 5) for k, v in {"loss": loss.detach(), "norm": norm, **report}.items()}
                log.write(json.dumps({"step": step, "seconds": round(time.monotonic() - began, 1), **values}) + "\n")
                log.flush()
                bar.set_postfix(values, refresh=False)
            if main and time.monotonic() - saved > config.checkpoint_seconds:
                state.save(step + 1)
                saved = time.monotonic()
            if stopped:
                if main:
                    state.save(step + 1)
                raise KeyboardInterrupt(f"saved at step {step + 1}; the same command goes on from there")
    if main:
        state.save(config.steps)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The list that a first Ctrl-C or termination signal enters, so that the loop can save; a second one kills."""
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.default_int_handler)

    caught = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = [signal.signal(number, note) for number in caught]
    try:
        yield received
    finally:
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


class Checkpoint:
    """A stage's trained weights, their moving average and the optimizer's state in one folder, as safetensors."""

    def __init__(self, folder: Path, stage: Stage, optimizer: MuonAdamW, config: TrainConfig) -> None:
        self.path = folder / CHECKPOINT
        self.stage, self.optimizer, self.config = stage, optimizer, config
        self.trained = {n: p for n, p in stage.named_parameters() if p.requires_grad}
        self.ema = {n: p.detach().clone() for n, p in self.trained.items()}

    @torch.no_grad()
    def update_ema(self, step: int) -> None:
        """Moves the average towards the weights; early steps are forgotten sooner."""
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.trained.values()], 1 - decay)

    def save(self, step: int) -> None:
        """Writes everything to a temporary name and renames it."""
        tensors = {f"model/{n}": p.detach() for n, p in self.trained.items()}
        tensors |= {f"ema/{n}": p for n, p in self.ema.items()}
        tensors |= {f"optimizer/{n}": t for n, t in self.optimizer.state_tensors().items()}
        tensors = {n: t.contiguous() for n, t in tensors.items()}
        partial = self.path.with_suffix(".partial")
        metadata = {"step": str(step), "stage": self.stage.name, "config": json.dumps(asdict(self.config))}
        save_file(tensors, partial, metadata)
        os.replace(partial, self.path)

    def load(self) -> int:
        """Restores a saved state; returns the step to go on from, 0 without a checkpoint."""
        if not self.path.exists():
            return 0
        with safe_open(str(self.path), framework="pt") as file:
            metadata = file.metadata()
            if metadata["stage"] != self.stage.name:
                raise InputError(f"{self.path} belongs to stage {metadata['stage']}; choose another folder")
            names = set(file.keys())
            expected = {f"{kind}/{n}" for n in self.trained for kind in ("model", "ema")}
            if not expected <= names:
                raise InputError(f"{self.path} was made with other model sizes; choose another folder or remove it")
            with torch.no_grad():
                for n, p in self.trained.items():
                    p.copy_(file.get_tensor(f"model/{n}"))
                    self.ema[n].copy_(file.get_tensor(f"ema/{n}"))
            states = {n.removeprefix("optimizer/"): file.get_tensor(n) for n in names if n.startswith("optimizer/")}
            self.optimizer.load_state_tensors(states)
        return int(metadata["step"])


def load_average(folder: Path, module: nn.Module, prefix: str) -> None:
    """Puts a stage's averaged weights whose names start with `prefix` into `module` (the rest stay)."""
    path = folder / CHECKPOINT
    if not path.exists():
        raise InputError(f"{path} does not exist; train that stage first")
    own = dict(module.named_parameters())
    with safe_open(str(path), framework="pt") as file, torch.no_grad():
        for name in file.keys():
            if name.startswith(f"ema/{prefix}"):
                own[name.removeprefix(f"ema/{prefix}")].copy_(file.get_tensor(name))
