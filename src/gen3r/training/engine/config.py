"""How a stage is run: steps, batch, optimizer, schedule, and what is kept of it."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from gen3r.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a stage is run.

    batch_size: of a step, over all processes. micro_batches: the parts that it is drawn and computed in; processes
        share them, and each computes its own one after the other, adding gradients up. 0: one part a process. Losses
        and weights depend on the number of parts and not on the number of processes.
    schedule: "wsd" warms up, stays, and falls linearly over the last `decay_fraction` of the steps (MiniCPM, sec. 4.3);
        "cosine" warms up and falls from there. floor: what it falls to, as a part of the learning rate. first_step:
        where the schedule begins; earlier steps are another phase's.
    optimizer: "muon" (with AdamW for what is no hidden matrix) or "adamw" (for sharded weights too).
    mixed_precision: products in bfloat16 where the device does them fast; False keeps float32 exact.
    gradient_checkpointing: blocks of the transformer are computed again in the backward pass, to save memory. shard:
        weights, gradients and optimizer state are split over processes (FSDP2; AdamW only). context_parallel: so many
        processes share the transformer's tokens of each micro-batch.
    minutes: of one launch, after which it ends wherever it is; the schedule then comes to its end by steps or by the
        clock, whichever is further. 0: no limit.
    keep_every: checkpoints of every so many steps stay, beside the newest two. 0: only those two.
    sheet_every: steps between sample sheets. skip_limit: steps in a row without finite gradients that stop a run.
    """

    steps: int
    batch_size: int
    learning_rate: float
    micro_batches: int = 0
    optimizer: Literal["muon", "adamw"] = "muon"
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup: int = 100
    decay_fraction: float = 0.25
    floor: float = 0.0
    first_step: int = 0
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    minutes: float = 0.0
    seed: int = 0
    mixed_precision: bool = True
    gradient_checkpointing: bool = False
    shard: bool = False
    context_parallel: int = 1
    checkpoint_seconds: float = 180.0
    keep_every: int = 0
    sheet_every: int = 250
    log_every: int = 20
    skip_limit: int = 10

    def spent(self, seconds: float) -> float:
        """The part of a launch's time that is over after so many seconds of it; 0 without a limit."""
        return seconds / (60 * self.minutes) if self.minutes else 0.0

    def learning_rate_at(self, step: int, spent: float = 0.0) -> float:
        """The learning rate of a step, when that part of the launch's time is over."""
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
            InputError: the processes cannot share the micro-batches, or these the batch, equally.
        """
        if processes % self.context_parallel:
            raise InputError(f"{processes} processes are no groups of {self.context_parallel} that share tokens")
        groups = processes // self.context_parallel
        parts = self.micro_batches or groups
        if parts % groups:
            raise InputError(f"{groups} processes cannot share {parts} micro-batches; choose a multiple of {groups}")
        if self.batch_size % parts:
            raise InputError(f"a batch of {self.batch_size} has no {parts} equal parts; choose a multiple of {parts}")
        return replace(self, micro_batches=parts)
