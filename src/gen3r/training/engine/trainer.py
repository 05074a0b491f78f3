"""One step of a stage: its micro-batches, shared by the processes that were launched, and what becomes of them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gen3r.errors import InputError
from gen3r.models.precision import fast_dtype, fast_products
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.optimizers import StageOptimizer
from gen3r.training.engine.sharding import shard
from gen3r.training.stages.stage import Batch, Stage


@dataclass(frozen=True)
class MicroBatch:
    """A part of a step's batch, and the seed of the noise that its forward pass draws."""

    content: Batch
    noise_seed: int


@dataclass(frozen=True)
class Gradients:
    """The results of the backward passes of a step, the same on all processes.

    values: loss, gradient norm before clipping, and the stage's report, means over micro-batches. shared: means over
    the processes of what each of them said beside.
    """

    values: dict[str, float]
    shared: dict[str, float]

    @property
    def finite(self) -> bool:
        """Whether the step may change the weights."""
        return bool(np.isfinite([self.values["loss"], self.values["norm"]]).all())


class Trainer:
    """A stage, its optimizer and accelerate's engine around them.

    A micro-batch and its noise depend only on the seed, the step and the number of the micro-batch.

    Raises:
        InputError: the processes cannot share the batch, or were launched for an engine with steps of its own.
    """

    def __init__(self, stage: Stage, config: TrainConfig, accelerator: Accelerator) -> None:
        if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
            raise InputError("accelerate's DeepSpeed and FSDP step by themselves; launch without them, with --shard")
        processes = accelerator.num_processes
        self.accelerator, self.config = accelerator, config.shared_by(processes)
        self.mine = range(accelerator.process_index, self.config.micro_batches, processes)
        accelerator.gradient_accumulation_steps = len(self.mine)
        set_seed(config.seed)
        if config.gradient_checkpointing:
            _checkpoint_gradients(stage)
        stage.to(accelerator.device)
        if config.shard:
            shard(stage, config, accelerator.device, processes)
        optimizer = StageOptimizer(stage, config, stage.outside_muon, stage.fast_parameters)
        self.optimizer = accelerator.prepare(optimizer)
        self.model = stage if config.shard else accelerator.prepare(stage)
        self.stage: Stage = accelerator.unwrap_model(self.model)
        self.dtype = fast_dtype(accelerator.device) if config.mixed_precision else torch.float32

    def draw(self, step: int) -> list[MicroBatch]:
        """This process's micro-batches of a step."""
        size = self.config.batch_size // self.config.micro_batches
        generators = [np.random.default_rng([self.config.seed, step, part]) for part in self.mine]
        return [MicroBatch(self.stage.make_batch(rng, size), int(rng.integers(2**62))) for rng in generators]

    def backward(self, micro_batches: list[MicroBatch], said: Callable[[], dict[str, float]] = dict) -> Gradients:
        """Leaves the clipped gradients of the mean loss in the weights; `said`, asked last, goes to all processes."""
        reports = []
        for micro in micro_batches:
            with self.accelerator.accumulate(self.model):
                reports.append(self.compute(micro))
        norm = self.accelerator.clip_grad_norm_(self.stage.parameters(), self.config.clip_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
        return self._shared(reports, norm, said())

    def compute(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Adds the gradients of a micro-batch; returns its loss and report."""
        torch.manual_seed(micro.noise_seed)
        device = self.accelerator.device
        batch = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in micro.content.items()}
        with fast_products(device) if self.config.mixed_precision else nullcontext():
            loss, report = self.model(batch)
        self.accelerator.backward(loss)
        return {"loss": loss.detach(), **report}

    def update(self, step: int, spent: float = 0.0) -> None:
        """Moves the weights along the gradients, when this share of the launch's time has passed."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(step, spent)
        self.optimizer.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Leaves the weights without gradients."""
        self.stage.zero_grad()

    def _shared(self, reports: list[dict[str, Tensor]], norm: Tensor, said: dict[str, float]) -> Gradients:
        """Means over all micro-batches and processes, in one exchange."""
        means = [torch.stack([report[name].float() for report in reports]).mean() for name in reports[0]]
        others = [means[0].new_tensor(float(number)) for number in said.values()]
        numbers = cast(Tensor, self.accelerator.reduce(torch.stack(means + others), "mean")).tolist()
        values = dict(zip(reports[0], numbers, strict=False))
        shared = dict(zip(said, numbers[len(means) :], strict=True))
        return Gradients({"loss": values.pop("loss"), "norm": float(norm), **values}, shared)


def _checkpoint_gradients(stage: nn.Module) -> None:
    """Blocks of models that can are computed again in the backward pass, instead of keeping what they computed."""
    models = [m for m in stage.modules() if isinstance(m, ModelMixin) and m._supports_gradient_checkpointing]
    trained = [model for model in models if any(p.requires_grad for p in model.parameters())]
    if not trained:
        raise InputError("no model of this stage supports gradient checkpointing; leave it out")
    for model in trained:
        cast(Any, model).enable_gradient_checkpointing()
