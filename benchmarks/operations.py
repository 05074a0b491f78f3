"""Floating-point operations of a training step."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from gen3r.training.engine.trainer import MicroBatch, Trainer

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
