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
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from gen3r.errors import InputError
from gen3r.models.precision import fast_dtype, fast_products
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.optimizers import make_optimizer
from gen3r.training.engine.sharding import shard, share_tokens
from gen3r.training.stages.stage import Batch, Stage

# Operations that torch does not count by itself, from the shapes of query, key and value.
CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}


@dataclass(frozen=True)
class MicroBatch:
    """A part of a step's batch, the seed of the noise that its forward pass draws, and the step's place in the run."""

    content: Batch
    noise_seed: int
    progress: float


@dataclass(frozen=True)
class Gradients:
    """What the backward passes of a step gave, the same on all processes.

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

    A micro-batch and its noise depend on (seed, step, number of the micro-batch) alone: neither on the number of
    processes nor on what came before.

    Raises:
        InputError: the processes cannot share the batch, or were launched for an engine with steps of its own.
    """

    def __init__(self, stage: Stage, config: TrainConfig, accelerator: Accelerator) -> None:
        if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
            raise InputError("accelerate's DeepSpeed and FSDP step by themselves; launch without them, with --shard")
        self.accelerator, self.config = accelerator, config.shared_by(accelerator.num_processes)
        shared = config.context_parallel  # processes that see the same micro-batches
        groups = accelerator.num_processes // shared
        self.mine = range(accelerator.process_index // shared, self.config.micro_batches, groups)
        accelerator.gradient_accumulation_steps = len(self.mine)
        set_seed(config.seed)
        if config.gradient_checkpointing:
            _checkpoint_gradients(stage)
        stage.to(accelerator.device)
        if shared > 1:
            share_tokens(stage, shared, accelerator.device, accelerator.num_processes)
        if config.shard:
            shard(stage, config, accelerator.device, accelerator.num_processes)
            self.model, self.optimizer = stage, accelerator.prepare(make_optimizer(stage, config))
        else:
            self.model, self.optimizer = accelerator.prepare(stage, make_optimizer(stage, config))
        self.stage: Stage = accelerator.unwrap_model(self.model)
        self.dtype = fast_dtype(accelerator.device) if config.mixed_precision else torch.float32

    def draw(self, step: int) -> list[MicroBatch]:
        """This process's micro-batches of a step."""
        size = self.config.batch_size // self.config.micro_batches
        generators = [np.random.default_rng([self.config.seed, step, part]) for part in self.mine]
        progress = step / self.config.steps
        return [MicroBatch(self.stage.make_batch(rng, size), int(rng.integers(2**62)), progress) for rng in generators]

    def backward(self, micro_batches: list[MicroBatch], said: Callable[[], dict[str, float]] = dict) -> Gradients:
        """Leaves the clipped gradients of the mean loss in the weights; `said`, asked last, goes to all processes."""
        reports = []
        for micro in micro_batches:
            with self.accelerator.accumulate(self.model):
                reports.append(self._backward(micro))
        norm = self.accelerator.clip_grad_norm_(self.stage.parameters(), self.config.clip_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
        return self._shared(reports, norm, said())

    def count_flops(self, micro_batches: list[MicroBatch]) -> int:
        """Operations of the products in a step of this process, from one more pass over the first micro-batch.

        A pass of its own, for counting changes the order of some sums.
        """
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            self._backward(micro_batches[0])
        self.drop_gradients()
        return len(self.mine) * counter.get_total_flops()

    def update(self, step: int, spent: float = 0.0) -> None:
        """Moves the weights along the gradients, when that part of the launch's time is over."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(step, spent)
        self.optimizer.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Leaves the weights without gradients."""
        self.stage.zero_grad()

    def _backward(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Adds the gradients of a micro-batch; returns its loss and report."""
        torch.manual_seed(micro.noise_seed)
        self.stage.progress = micro.progress
        with fast_products(self.accelerator.device) if self.config.mixed_precision else nullcontext():
            loss, report = self.model(_to_device(micro.content, self.accelerator.device))
        self.accelerator.backward(loss * self.config.context_parallel)  # the mean over processes is to be a sum
        return {"loss": loss.detach(), **report}

    def _shared(self, reports: list[dict[str, Tensor]], norm: Tensor, said: dict[str, float]) -> Gradients:
        """Means over all micro-batches and processes, in one exchange."""
        means = [torch.stack([report[name].float() for report in reports]).mean() for name in reports[0]]
        others = [means[0].new_tensor(float(number)) for number in said.values()]
        numbers = cast(Tensor, self.accelerator.reduce(torch.stack(means + others), "mean")).tolist()
        values = dict(zip(reports[0], numbers, strict=False))
        shared = dict(zip(said, numbers[len(means) :], strict=True))
        return Gradients({"loss": values.pop("loss"), "norm": float(norm), **values}, shared)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _checkpoint_gradients(stage: nn.Module) -> None:
    """Blocks of models that can are computed again in the backward pass, instead of keeping what they computed."""
    able: list[Any] = [
        m
        for m in stage.modules()
        if isinstance(m, ModelMixin)
        and m._supports_gradient_checkpointing
        and any(p.requires_grad for p in m.parameters())
    ]
    if not able:
        raise InputError("no model of this stage supports gradient checkpointing; leave it out")
    for model in able:
        model.enable_gradient_checkpointing()
