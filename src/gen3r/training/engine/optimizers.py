"""Muon for the hidden matrices and convolutions, AdamW for everything else, behind one optimizer interface."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from gen3r.training.engine.config import TrainConfig

DISTANCES = 10
Owned = Iterator[tuple[torch.optim.Optimizer, str, nn.Parameter]]


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a configuration, on the parameters that are trained."""
    if config.optimizer == "muon":
        return MuonAdamW(module, config.learning_rate, config.weight_decay)
    trained = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)


def state_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Every state of an optimizer as `parameter name/key` -> tensor, so that a checkpoint needs no pickle."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for inner, name, parameter in _owned(optimizer, module)
        for key, value in inner.state[parameter].items()
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of `state_tensors`."""
    owner = {name: (inner, parameter) for inner, name, parameter in _owned(optimizer, module)}
    for path, value in tensors.items():
        name, key = path.rsplit("/", 1)
        if name not in owner:
            continue
        inner, parameter = owner[name]
        if value.ndim:  # counters of steps stay on the CPU
            value = value.to(parameter.device)
            if isinstance(parameter, DTensor):
                value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
        inner.state[parameter][key] = value


def _owned(optimizer: torch.optim.Optimizer, module: nn.Module) -> Owned:
    """The optimizer that holds the state of each trained parameter."""
    if isinstance(optimizer, MuonAdamW):
        yield from optimizer.owned()
    else:
        yield from ((optimizer, n, p) for n, p in module.named_parameters() if p.requires_grad)


class MuonAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` on weights of two or more axes within the network, `torch.optim.AdamW` on the rest.

    Convolutions are seen as matrices [out, in * kernel]. Embeddings, heads, norms, biases and small matrices are
    AdamW's. A weight with an attribute `step_scale`, a tensor that broadcasts with it, is stepped in its units.
    Muon needs whole matrices: it is for weights that are not sharded. What T5's encoders add to attention scores by the
    distance of two words moves `DISTANCES` times as fast: a score that counts is 5 or more, and steps are small.
    """

    def __init__(self, module: nn.Module, lr: float, weight_decay: float) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        self._matrices = {n: (p, nn.Parameter(_as_matrix(p.data))) for n, p in named if _is_hidden(n, p)}
        others = [(n, p) for n, p in named if n not in self._matrices]
        self._parts: list[tuple[torch.optim.Optimizer, list[tuple[str, nn.Parameter]]]] = []
        if self._matrices:
            views = [(n, view) for n, (_, view) in self._matrices.items()]
            muon = torch.optim.Muon(
                [p for _, p in views], lr=lr, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append((muon, views))
        distances = [p for n, p in others if "relative_attention_bias" in n]
        rest = [p for n, p in others if "relative_attention_bias" not in n]
        groups = [{"params": rest}, {"params": distances, "times": DISTANCES}]
        adam = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))
        self._parts.append((adam, others))
        super().__init__([p for _, p in named], {"lr": lr})

    def step(self, closure=None) -> None:
        """One step of both parts at the current learning rate."""
        scaled = []
        for parameter, view in self._matrices.values():
            gradient, scale, weight = parameter.grad, getattr(parameter, "step_scale", None), parameter.detach()
            if gradient is not None and scale is not None:
                scale = scale.to(weight.device)  # no buffer, so it does not move with the module
                gradient, weight = gradient * scale, weight / scale
                scaled.append((parameter, view, scale))
            view.data = _as_matrix(weight)  # anew: data-parallel engines and devices move the weights' memory
            assert view.data_ptr() == weight.data_ptr(), "a copy would be trained"
            view.grad = None if gradient is None else _as_matrix(gradient, like=parameter)
        for inner, _ in self._parts:
            for group in inner.param_groups:
                group["lr"] = group.get("times", 1) * self.param_groups[0]["lr"]
            inner.step()
        for parameter, view, scale in scaled:
            parameter.data.copy_(view.data.view_as(parameter) * scale)

    def owned(self) -> Owned:
        """Part, name and parameter (Muon's: a view of it) of everything that is trained."""
        for inner, named in self._parts:
            for name, parameter in named:
                yield inner, name, parameter


def _is_hidden(name: str, parameter: Tensor) -> bool:
    """Weights of at least 16 rows and columns inside the network, not its embeddings and last layers.

    VGGT's camera head stays with AdamW too: its matrices are half of nano's VGGT, but see one token a frame.
    """
    outside = ("embed_tokens", "shared", "embedding", "output_conv2", "camera_head", "proj_out", "gamma", "table")
    if parameter.ndim < 2 or any(part in name for part in outside):
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= 16


def _as_matrix(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """[out, rest] of a weight, sharing its memory whether the channels come first or last in it.

    `like`: lay the columns out as that tensor's.
    """
    like = tensor if like is None else like
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.ndim)
    if last is not None and like.is_contiguous(memory_format=last) and not like.is_contiguous():
        return tensor.movedim(1, -1).reshape(len(tensor), -1)
    return tensor.reshape(len(tensor), -1)
