"""How a stage is run: steps, batch, optimizer, schedule, and what is kept of it. The command line reads the fields."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from gen3r.errors import InputError
from gen3r.options import option

MAX_LEARNING_RATE = 1000.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a stage is run. Losses and weights depend on `micro_batches` and not on the number of processes.

    schedule: "wsd" falls linearly over the last `decay_fraction` of the steps (MiniCPM, sec. 4.3). floor: what the rate
        falls to, as a share of `learning_rate`. first_step: where the schedule begins; earlier steps
        are another phase's.
    optimizer: "muon" uses AdamW for all that is no hidden matrix. Sharded weights need "adamw".
    mixed_precision: products in bfloat16 where the device is fast at them; False keeps float32.
    minutes: 0 is no limit. With a limit the schedule ends by steps or by the clock, whichever is further.
    skip_limit: the number of successive steps without finite gradients that stops a run.
    """

    steps: int = option(help="steps in all", positive=True)
    batch_size: int = option(help="clips (geometry, adapter: frames) per step, over all processes", positive=True)
    learning_rate: float = option(help="peak of the learning rate", positive=True)
    micro_batches: int = option(
        0,
        "parts of a batch, whose gradients are added up; processes share them (default: one per process)",
        positive=True,
    )
    optimizer: Literal["muon", "adamw"] = option("muon", "Muon with AdamW, or AdamW alone")
    schedule: Literal["wsd", "cosine"] = option("wsd", "warm-up, constant, decay; or warm-up and cosine decay")
    warmup: int = 100
    decay_fraction: float = 0.25
    floor: float = 0.0
    first_step: int = 0
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    minutes: float = option(0.0, "time limit of this launch, in which the schedule comes to its end", positive=True)
    seed: int = option(0, "seed of weights, batches and noise")
    mixed_precision: bool = True
    gradient_checkpointing: bool = option(
        False, "compute the transformer's blocks again in the backward pass, to save memory"
    )
    shard: bool = option(
        False, "split weights, gradients and optimizer state over the processes (FSDP2, with --optimizer adamw)"
    )
    checkpoint_seconds: float = 180.0
    keep_every: int = option(0, "keep a checkpoint every so many steps, beside the newest two", metavar="STEPS")
    sheet_every: int = option(250, "steps between sample sheets", metavar="STEPS")
    log_every: int = 20
    skip_limit: int = 10

    def __post_init__(self) -> None:
        if self.learning_rate > MAX_LEARNING_RATE:
            raise InputError(f"--learning-rate must be at most {MAX_LEARNING_RATE:g}, not {self.learning_rate:g}")
        for name in ("keep_every", "sheet_every", "seed"):
            if not 0 <= getattr(self, name) < 2**32:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be a whole number from 0 to 2^32 - 1, not {getattr(self, name)}")

    def spent(self, seconds: float) -> float:
        """The share of a launch's time that has passed after so many seconds; 0 without a limit."""
        return seconds / (60 * self.minutes) if self.minutes else 0.0

    def learning_rate_at(self, step: int, spent: float = 0.0) -> float:
        """The learning rate of a step, when this share of the launch's time has passed."""
        step, steps = step - self.first_step, self.steps - self.first_step
        if self.schedule == "cosine":
            progress = max((step - self.warmup) / max(steps - self.warmup, 1), spent, 0.0)
            left = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        else:
            stays = max(steps - step, 0) / max(steps * self.decay_fraction, 1)
            left = min(stays, max(1 - spent, 0.0) / max(self.decay_fraction, 1e-9), 1.0)
        return self.learning_rate * min((step + 1) / max(self.warmup, 1), self.floor + (1 - self.floor) * left)

    def shared_by(self, processes: int) -> Self:
        """The same with the number of micro-batches settled.

        Raises:
            InputError: the processes cannot share the micro-batches equally, or these the batch.
        """
        parts = self.micro_batches or processes
        if parts % processes:
            raise InputError(
                f"{processes} processes cannot share {parts} micro-batches; choose a multiple of {processes}"
            )
        if self.batch_size % parts:
            raise InputError(f"a batch of {self.batch_size} has no {parts} equal parts; choose a multiple of {parts}")
        return replace(self, micro_batches=parts)
