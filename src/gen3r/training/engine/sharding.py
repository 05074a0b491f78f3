"""Weights and their states that processes share (PyTorch's FSDP2).

accelerate's own switch for FSDP2 does nothing on a CPU, where it could be tested; `fully_shard` is what it calls.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig


def shard(stage: nn.Module, config: TrainConfig, device: torch.device, processes: int) -> None:
    """Shards, in place, each block that a model names as one, and then everything else together.

    Raises:
        InputError: there is one process, or the optimizer needs whole matrices.
    """
    if processes == 1:
        raise InputError("shards need several processes: launch with torchrun or accelerate, or leave them out")
    if config.optimizer == "muon":
        raise InputError("Muon needs whole matrices; choose --optimizer adamw for sharded weights")
    mesh = init_device_mesh(device.type, (processes,))
    names = {name for module in stage.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    for module in list(stage.modules()):
        if type(module).__name__ in names:
            fully_shard(module, mesh=mesh)
    fully_shard(stage, mesh=mesh)
