"""The loop that every stage shares: steps, checkpoints, resumption, metrics."""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL.Image import Image
from safetensors import SafetensorError
from tqdm import tqdm

from gen3r.errors import InputError
from gen3r.files import whole_file
from gen3r.training.engine.checkpoint import Checkpoint
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.guard import NonFiniteGuard
from gen3r.training.engine.logs import JsonLines, check_trackers
from gen3r.training.engine.throughput import Throughput, matrix_rate
from gen3r.training.engine.trainer import MicroBatch, Trainer
from gen3r.training.stages.stage import Stage

AHEAD = 8  # steps whose data is drawn while an accelerator computes, each by a thread


def train(
    stage: Stage,
    config: TrainConfig,
    folder: Path,
    sheet: Callable[[], Image] | None = None,
    trackers: Sequence[str] = (),
) -> None:
    """Trains `stage` to `config.steps`, from the checkpoint in `folder` if there is one.

    A step's data and noise depend on (seed, step, micro-batch) alone: a resumed run repeats an uninterrupted one.
    sheet: draws what the stage makes of fixed clips, for sheets/; not where processes share weights or tokens.
    trackers: names from `metrics.TRACKERS`, beside metrics.jsonl.

    Raises:
        InputError: the checkpoint, the folder or the data cannot be used, or too many steps in a row were not finite.
    """
    check_trackers(trackers)
    folder.mkdir(parents=True, exist_ok=True)
    lines = JsonLines(folder)
    accelerator = Accelerator(log_with=[lines, *trackers], project_dir=folder)
    trainer = Trainer(stage, config, accelerator)
    config, main = trainer.config, accelerator.is_main_process
    state = Checkpoint(folder, trainer.stage, trainer.optimizer.optimizer, config, main)
    start = lines.first_step = state.load()
    if start >= config.steps:
        return
    guard = NonFiniteGuard(folder, config.skip_limit, accelerator.process_index)
    ahead = 1 if accelerator.device.type == "cpu" else AHEAD
    with (
        ThreadPoolExecutor(ahead) as drawers,
        _tracked(accelerator, config, stage.name),
        tqdm(total=config.steps, initial=start, desc=stage.name, unit="step", disable=not main, mininterval=5) as bar,
        _stop_signals() as stopped,
    ):
        drawn = deque(drawers.submit(trainer.draw, step) for step in range(start, start + ahead))
        flops = trainer.count_flops(_received(drawn[0], start))
        speed = Throughput(config.batch_size, flops, matrix_rate(accelerator.device, trainer.dtype))
        began = saved = time.monotonic()
        for step in range(start, config.steps):
            parts = _received(drawn.popleft(), step)
            drawn.append(drawers.submit(trainer.draw, step + ahead))
            spent = config.spent(time.monotonic() - began)
            due = main and time.monotonic() - saved > config.checkpoint_seconds
            said = {"save": due, "spent": spent}
            gradients = trainer.backward(parts, lambda said=said: {"stop": bool(stopped), **said})
            spent = gradients.shared["spent"]
            if guard.accepts(step, gradients.finite, [p.content for p in parts], [p.noise_seed for p in parts]):
                trainer.update(step, spent)
                state.update_ema(step)
            else:
                trainer.drop_gradients()
            speed.step()
            bar.update()
            if step % config.log_every == 0 and gradients.finite:
                run = {"seconds": time.monotonic() - began, "skipped": guard.skipped, **speed.lap()}
                _report(accelerator, bar, step, {**gradients.values, **run})
            alone = not config.shard and config.context_parallel == 1
            stop, last = gradients.shared["stop"] > 0, step + 1 == config.steps or spent >= 1
            if sheet and main and alone and config.sheet_every and (last or _every(config.sheet_every, step + 1)):
                _draw(sheet, state, folder / "sheets" / f"step-{step + 1:07d}.png")
            if stop or last or gradients.shared["save"] > 0 or _every(config.keep_every, step + 1):
                state.save(step + 1)
                saved = time.monotonic()
            if stop and not last:
                raise KeyboardInterrupt(f"saved at step {step + 1}; the same command goes on from there")
            if last:
                break


def _every(period: int, step: int) -> bool:
    return bool(period) and step % period == 0


def _report(accelerator: Accelerator, bar: tqdm, step: int, values: dict[str, float]) -> None:
    """A step's numbers, to the trackers with eight digits and to the progress bar with four."""
    accelerator.log({k: float(f"{v:.8g}") for k, v in values.items()}, step=step)
    bar.set_postfix({k: f"{v:.4g}" for k, v in values.items() if k != "seconds"}, refresh=False)


def _received(future: Future[list[MicroBatch]], step: int) -> list[MicroBatch]:
    """The drawn micro-batches; files that went away and workers that died become one clear line."""
    try:
        return future.result()
    except InputError:
        raise
    except (RuntimeError, OSError, MemoryError, SafetensorError) as error:  # a dead worker's pool is a RuntimeError
        raise InputError(
            f"the data of step {step} could not be made ({type(error).__name__}: {error}); the last checkpoint is "
            "whole: repair the data or free memory, and the same command goes on from there"
        ) from error


def _draw(sheet: Callable[[], Image], state: Checkpoint, path: Path) -> None:
    """What the averaged weights make of the fixed clips; the random numbers of training are left alone."""
    with state.averaged(), torch.random.fork_rng(), whole_file(path) as partial:
        torch.manual_seed(0)
        sheet().save(partial)


@contextmanager
def _tracked(accelerator: Accelerator, config: TrainConfig, name: str) -> Iterator[None]:
    accelerator.init_trackers(name, asdict(config))
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


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
