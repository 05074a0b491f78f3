"""What processes share of one model: its weights and their states (PyTorch's FSDP2), or its tokens (diffusers' engine).

accelerate's own switch for FSDP2 does nothing on a CPU, where it could be tested; `fully_shard` is what it calls.
"""

import torch
from diffusers import ContextParallelConfig
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gen3r.errors import InputError
from gen3r.models.transformer import Gen3RTransformer
from gen3r.training.engine.config import TrainConfig
from gen3r.training.stages.diffusion import DiffusionStage
from gen3r.training.stages.stage import Stage


def shard(stage: nn.Module, config: TrainConfig, device: torch.device, processes: int) -> None:
    """Shards, in place, the blocks that the models name as such, one by one, and then everything else together.

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


def share_tokens(stage: Stage, degree: int, device: torch.device, processes: int) -> None:
    """Splits the transformer's tokens over groups of `degree` processes that see the same batch (DeepSpeed-Ulysses).

    A process has all tokens in attention, of its part of the heads. Gradients are parts of a sum over the group.

    Raises:
        InputError: the stage has no transformer, or its heads or tokens have no equal parts.
    """
    if not isinstance(stage, DiffusionStage):
        raise InputError(f"{stage.name} trains no transformer whose tokens could be shared")
    heads = stage.transformer.config["num_attention_heads"]
    tokens = stage.transformer.token_count(*stage.latents.shape)
    if heads % degree or tokens % degree:
        raise InputError(f"{heads} heads and {tokens} tokens have no {degree} equal parts; share them with fewer")
    mesh = init_device_mesh(device.type, (processes // degree, 1, degree), mesh_dim_names=("data", "ring", "ulysses"))
    for module in stage.modules():
        if isinstance(module, Gen3RTransformer):
            module.enable_parallelism(config=ContextParallelConfig(ulysses_degree=degree, mesh=mesh))
