"""The loop that every stage shares: steps, checkpoints, resumption, metrics."""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
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
from gen3r.training.engine.logs import JsonLines, check_trackers
from gen3r.training.engine.trainer import Gradients, MicroBatch, Trainer
from gen3r.training.stages.stage import Stage

AHEAD = 8  # steps whose batches are drawn while an accelerator computes, each by a thread
Clock = Callable[[], float]  # seconds since some moment


def train(
    stage: Stage,
    config: TrainConfig,
    folder: Path,
    sheet: Callable[[], Image] | None = None,
    trackers: Sequence[str] = (),
    clock: Clock = time.monotonic,
) -> None:
    """Trains `stage` to `config.steps`, from the checkpoint in `folder` if there is one.

    A step's data and noise depend only on the seed, the step and the micro-batch, so a resumed run repeats an
    uninterrupted one.
    sheet: draws the stage's output for fixed clips, for sheets/; not used where processes share weights.
    trackers: names from `logs.TRACKERS`, beside metrics.jsonl.

    Raises:
        InputError: the checkpoint, the folder or the data cannot be used, or too many steps in a row were not finite.
    """
    check_trackers(trackers)
    folder.mkdir(parents=True, exist_ok=True)
    lines = JsonLines(folder)
    accelerator = Accelerator(log_with=[lines, *trackers], project_dir=folder)
    trainer = Trainer(stage, config, accelerator)
    main = accelerator.is_main_process
    checkpoint = Checkpoint(folder, trainer.stage, trainer.optimizer.optimizer, trainer.config, main)
    start = lines.first_step = checkpoint.load()
    if start >= config.steps:
        return
    if config.shard or not main:
        sheet = None
    bar = tqdm(total=config.steps, initial=start, desc=stage.name, unit="step", disable=not main, mininterval=5)
    with bar, _tracked(accelerator, trainer.config, stage.name), _stop_signals() as stopped:
        launch = Launch(trainer, checkpoint, bar, sheet, clock)
        with closing(_drawn_ahead(trainer, start)) as batches:
            for step, micro_batches in batches:
                gradients = launch.step(step, micro_batches, stopped)
                stop, last = gradients.shared["stop"] > 0, step + 1 == config.steps or gradients.shared["spent"] >= 1
                launch.keep(step + 1, last, stop or gradients.shared["save"] > 0)
                if last:
                    return
                if stop:
                    raise KeyboardInterrupt(f"saved at step {step + 1}; the same command goes on from there")


class Launch:
    """One launch of a stage's training: its clock, its counts, and what it writes."""

    def __init__(
        self, trainer: Trainer, checkpoint: Checkpoint, bar: tqdm, sheet: Callable[[], Image] | None, clock: Clock
    ) -> None:
        self.trainer, self.checkpoint, self.bar, self.sheet, self.clock = trainer, checkpoint, bar, sheet, clock
        self.config = trainer.config
        self.began = self.saved = self.logged = clock()
        self.skipped = self.in_a_row = self.unlogged = 0

    def step(self, step: int, micro_batches: list[MicroBatch], stopped: list[int]) -> Gradients:
        """Computes a step, and changes the weights if its gradients are finite.

        Returns them with what the processes agree on: whether to `stop` and to `save`, and the share of time `spent`.

        Raises:
            InputError: too many steps in a row were not finite.
        """
        now = self.clock()
        due = self.trainer.accelerator.is_main_process and now - self.saved > self.config.checkpoint_seconds
        said = {"save": due, "spent": self.config.spent(now - self.began)}
        gradients = self.trainer.backward(micro_batches, lambda: {"stop": bool(stopped), **said})
        if gradients.finite:
            self.in_a_row = 0
            self.trainer.update(step, gradients.shared["spent"])
            self.checkpoint.update_ema(step)
        else:
            self._skip(step)
        self.unlogged += 1
        self.bar.update()
        if step % self.config.log_every == 0 and gradients.finite:
            self._log(step, gradients.values)
        return gradients

    def keep(self, step: int, last: bool, save: bool) -> None:
        """Draws a sheet and saves a checkpoint after `step` steps, where they are due."""
        if self.sheet and self.config.sheet_every and (last or step % self.config.sheet_every == 0):
            self._draw(self.sheet, self.checkpoint.path.parent / "sheets" / f"step-{step:07d}.png")
        if last or save or (self.config.keep_every and step % self.config.keep_every == 0):
            self.checkpoint.save(step)
            self.saved = self.clock()

    def _skip(self, step: int) -> None:
        """Leaves the weights as they are."""
        self.trainer.drop_gradients()
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.config.skip_limit:
            raise InputError(
                f"the loss or its gradient was not finite in {self.in_a_row} steps in a row, up to step {step}; "
                "go on from the checkpoint with a lower --learning-rate"
            )

    def _log(self, step: int, values: dict[str, float]) -> None:
        """A step's numbers, to the trackers with eight digits and to the progress bar with four."""
        now = self.clock()
        speed = self.unlogged * self.config.batch_size / max(now - self.logged, 1e-9)
        self.logged, self.unlogged = now, 0
        values = {**values, "seconds": now - self.began, "skipped": self.skipped, "samples_per_s": speed}
        self.trainer.accelerator.log({k: float(f"{v:.8g}") for k, v in values.items()}, step=step)
        self.bar.set_postfix({k: f"{v:.4g}" for k, v in values.items() if k != "seconds"}, refresh=False)

    def _draw(self, sheet: Callable[[], Image], path: Path) -> None:
        """A sheet of the averaged weights. The random numbers of training stay as they are."""
        with self.checkpoint.averaged(), torch.random.fork_rng(), whole_file(path) as partial:
            torch.manual_seed(0)
            sheet().save(partial)


def _drawn_ahead(trainer: Trainer, start: int) -> Iterator[tuple[int, list[MicroBatch]]]:
    """The steps from `start` on with their micro-batches. Threads draw the next ones while the caller computes."""
    steps = range(start, trainer.config.steps)
    ahead = 1 if trainer.accelerator.device.type == "cpu" else AHEAD
    pool = ThreadPoolExecutor(ahead)
    try:
        drawn = deque(pool.submit(trainer.draw, step) for step in steps[:ahead])
        for step in steps:
            micro_batches = _received(drawn.popleft(), step)
            if step + ahead < steps.stop:
                drawn.append(pool.submit(trainer.draw, step + ahead))
            yield step, micro_batches
    finally:
        pool.shutdown(cancel_futures=True)


def _received(future: Future[list[MicroBatch]], step: int) -> list[MicroBatch]:
    """The drawn micro-batches; missing files and dead workers become one clear line."""
    try:
        return future.result()
    except InputError:
        raise
    except (RuntimeError, OSError, MemoryError, SafetensorError) as error:  # a dead worker's pool is a RuntimeError
        raise InputError(
            f"the data of step {step} could not be made ({type(error).__name__}: {error}); the last checkpoint is "
            "whole: repair the data or free memory, and the same command goes on from there"
        ) from error


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
