"""Floating-point operations of a training step, and the rate of this machine's matrix products."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from gen3r.training.engine.trainer import MicroBatch, Trainer

ROUNDS = 5
# Operations that torch does not count by itself, from the shapes of query, key and value.
CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def count_flops(trainer: Trainer, micro_batches: list[MicroBatch]) -> int:
    """Operations of the products in a step of this process, from a pass over the first micro-batch."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        trainer.compute(micro_batches[0])
    trainer.drop_gradients()
    return len(trainer.mine) * counter.get_total_flops()


def measure_matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of square matrix products [1/s]: the best of a few."""
    size = 1024 if device.type == "cpu" else 8192
    a = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(ROUNDS):
        finish_work(device)
        began = time.perf_counter()
        torch.mm(a, a)
        finish_work(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def finish_work(device: torch.device) -> None:
    """Waits for an accelerator."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
