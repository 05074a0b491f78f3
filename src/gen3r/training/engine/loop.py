"""The loop that every stage shares: steps, checkpoints, resumption, metrics."""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
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
from gen3r.training.engine.logs import Logs, check_trackers, open_logs
from gen3r.training.engine.trainer import Gradients, MicroBatch, Trainer
from gen3r.training.stages.stage import Stage

AHEAD = 8  # steps whose batches are drawn while an accelerator computes, each by a thread


def train(
    stage: Stage,
    config: TrainConfig,
    folder: Path,
    sheet: Callable[[], Image] | None = None,
    trackers: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Trains `stage` to `config.steps`, from the checkpoint in `folder` if there is one.

    A step's data and noise depend only on the seed, the step and the micro-batch, so a resumed run repeats an
    uninterrupted one.
    sheet: draws the stage's output for fixed clips, for sheets/; not used where processes share weights.
    trackers: names from `logs.TRACKERS`, beside metrics.jsonl. clock: tells seconds [s].

    Raises:
        InputError: the checkpoint, the folder or the data cannot be used, or too many steps in a row were not finite.
    """
    check_trackers(trackers)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(log_with=[*trackers] or None, project_dir=folder)
    trainer = Trainer(stage, config, accelerator)
    main, config = accelerator.is_main_process, trainer.config
    checkpoint = Checkpoint(folder, trainer.stage, trainer.optimizer.optimizer, config, main)
    start = checkpoint.load()
    if start >= config.steps:
        return
    with (
        open_logs(accelerator, folder, stage.name, asdict(config), start) as logs,
        tqdm(total=config.steps, initial=start, desc=stage.name, unit="step", disable=not main, mininterval=5) as bar,
        _stop_signals() as stopped,
        closing(_drawn_ahead(trainer, start)) as batches,
    ):
        launch = Launch(trainer, checkpoint, logs, sheet if main and not config.shard else None, clock)
        for step, micro_batches in batches:
            gradients = launch.step(step, micro_batches, stopped)
            bar.update()
            bar.set_postfix({name: f"{value:.4g}" for name, value in gradients.values.items()}, refresh=False)
            stop, last = gradients.shared["stop"] > 0, step + 1 == config.steps or gradients.shared["spent"] >= 1
            launch.keep(step + 1, last, stop or gradients.shared["save"] > 0)
            if last:
                return
            if stop:
                raise KeyboardInterrupt(f"saved at step {step + 1}; the same command goes on from there")


class Launch:
    """One launch of a stage's training: its clock, its counts, and what it writes."""

    def __init__(
        self,
        trainer: Trainer,
        checkpoint: Checkpoint,
        logs: Logs,
        sheet: Callable[[], Image] | None,
        clock: Callable[[], float],
    ) -> None:
        self.trainer, self.checkpoint, self.logs, self.sheet, self.clock = trainer, checkpoint, logs, sheet, clock
        self.config = trainer.config
        self.began = self.saved = self.logged = clock()
        self.skipped = self.in_a_row = self.unlogged = 0

    def step(self, step: int, micro_batches: list[MicroBatch], stopped: list[int]) -> Gradients:
        """Computes a step, and changes the weights if its gradients are finite.

        Returns the gradients with what the processes agree on: whether to `stop` and to `save`, and the share of the
        time that is `spent`.

        Raises:
            InputError: too many steps in a row were not finite.
        """
        now = self.clock()
        due = self.trainer.accelerator.is_main_process and now - self.saved > self.config.checkpoint_seconds
        said = {"save": due, "spent": self.config.spent(now - self.began)}
        gradients = self.trainer.backward(micro_batches, lambda: {"stop": bool(stopped), **said})
        self.unlogged += 1
        if not gradients.finite:
            self._skip(step)
            return gradients
        self.in_a_row = 0
        self.trainer.update(step, gradients.shared["spent"])
        self.checkpoint.update_ema(step)
        if step % self.config.log_every == 0:
            now = self.clock()
            speed = self.unlogged * self.config.batch_size / max(now - self.logged, 1e-9)
            counts = {"seconds": now - self.began, "skipped": self.skipped, "samples_per_s": speed}
            self.logs.write(step, {**gradients.values, **counts})
            self.logged, self.unlogged = now, 0
        return gradients

    def _skip(self, step: int) -> None:
        """Leaves the weights as they are."""
        self.trainer.drop_gradients()
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.config.skip_limit:
            raise InputError(
                f"the loss or its gradient was not finite in {self.in_a_row} steps in a row, up to {step}; go on from "
                "the checkpoint with a lower --learning-rate"
            )

    def keep(self, step: int, last: bool, save: bool) -> None:
        """Saves a checkpoint and draws a sheet after `step` steps, where they are due."""
        sheets, kept = self.config.sheet_every, self.config.keep_every
        if last or save or (kept and step % kept == 0):
            self.checkpoint.save(step)
            self.trainer.accelerator.wait_for_everyone()  # no process reads a checkpoint before it is written
            self.saved = self.clock()
        if self.sheet and sheets and (last or step % sheets == 0):
            path = self.checkpoint.path.parent / "sheets" / f"step-{step:07d}.png"
            with self.checkpoint.averaged(), torch.random.fork_rng(), whole_file(path) as partial:
                torch.manual_seed(0)
                self.sheet().save(partial)


def _drawn_ahead(trainer: Trainer, start: int) -> Generator[tuple[int, list[MicroBatch]]]:
    """The steps from `start` on with their micro-batches. Threads draw the next ones while the caller computes."""
    steps = range(start, trainer.config.steps)
    ahead = 1 if trainer.accelerator.device.type == "cpu" else AHEAD
    pool = ThreadPoolExecutor(ahead)
    try:
        drawn = deque(pool.submit(trainer.draw, step) for step in steps[:ahead])
        for step in steps:
            micro_batches = _received(drawn.popleft(), step)
            if step + ahead in steps:
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
