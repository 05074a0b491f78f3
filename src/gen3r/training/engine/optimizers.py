"""Muon for the hidden matrices and convolutions, AdamW for everything else, behind one optimizer interface."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig
from gen3r.training.stages.stage import Stage

STATES = {torch.optim.AdamW: ("exp_avg", "exp_avg_sq"), torch.optim.Muon: ("momentum_buffer",)}  # per parameter
Owned = Iterator[tuple[torch.optim.Optimizer, str, nn.Parameter]]


def make_optimizer(stage: Stage, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a configuration, on the parameters that are trained."""
    if config.optimizer == "muon":
        return MuonAdamW(stage, config.learning_rate, config.weight_decay, stage.outside_muon, stage.fast_parameters)
    trained = [p for p in stage.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)


def state_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Every state of an optimizer as `parameter name/key` -> tensor, so that a checkpoint needs no pickle.

    Parameters that were not stepped yet get the zeros from which their first step would start.
    """
    tensors = {}
    for inner, name, parameter in _owned(optimizer, module):
        state = inner.state[parameter]
        if not state:
            state |= {key: torch.zeros_like(parameter) for key in STATES[type(inner)]}
            if isinstance(inner, torch.optim.AdamW):
                state["step"] = torch.tensor(0.0)
        tensors |= {f"{name}/{key}": torch.as_tensor(value) for key, value in state.items()}
    return tensors


def load_state_tensors(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `state_tensors`.

    Raises:
        InputError: a state is missing, or belongs to nothing that is trained.
    """
    expected = state_tensors(optimizer, module)
    if differing := sorted(expected.keys() ^ tensors.keys()):
        what = "lacks" if differing[0] in expected else "has an unknown"
        raise InputError(
            f"the optimizer's state {what} {differing[0]} ({len(differing)} such in all); start the stage anew in "
            "another folder"
        )
    for inner, name, parameter in _owned(optimizer, module):
        for key in inner.state[parameter]:
            value = tensors[f"{name}/{key}"]
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
    """`torch.optim.Muon` on matrices of at least 16 rows and columns, `torch.optim.AdamW` on the rest.

    Convolutions count as matrices [out, in * kernel]. A weight with an attribute `step_scale`, a tensor that broadcasts
    with it, is stepped in units of that scale. Muon needs whole matrices, so weights cannot be sharded.

    outside: parts of the names of matrices that AdamW steps. fast: parts of the names of AdamW's parameters, and the
    factors of their learning rates.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        weight_decay: float,
        outside: Sequence[str] = (),
        fast: Mapping[str, float] | None = None,
    ) -> None:
        named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._matrices = {
            n: (p, nn.Parameter(_as_matrix(p.data)))
            for n, p in named.items()
            if p.ndim > 1 and min(p.shape[0], p[0].numel()) >= 16 and not any(part in n for part in outside)
        }
        self._parts: list[tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]] = []
        if views := {n: view for n, (_, view) in self._matrices.items()}:
            muon = torch.optim.Muon(
                views.values(), lr=lr, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append((muon, views))
        others = {n: p for n, p in named.items() if n not in self._matrices}
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in others.items():
            factor = next((factor for part, factor in (fast or {}).items() if part in name), 1.0)
            groups.setdefault(factor, []).append(parameter)
        adam_groups = [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]
        adam = torch.optim.AdamW(adam_groups, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))
        self._parts.append((adam, others))
        super().__init__([*named.values()], {"lr": lr})

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
                group["lr"] = group.get("factor", 1.0) * self.param_groups[0]["lr"]
            inner.step()
        for parameter, view, scale in scaled:
            parameter.data.copy_(view.data.view_as(parameter) * scale)

    def owned(self) -> Owned:
        """Part, name and parameter (Muon's: a view of it) of everything that is trained."""
        for inner, named in self._parts:
            for name, parameter in named.items():
                yield inner, name, parameter


def _as_matrix(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """[out, rest] of a weight, sharing its memory whether the channels come first or last in it.

    `like`: lay the columns out as that tensor's.
    """
    like = tensor if like is None else like
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.ndim)
    if last is not None and like.is_contiguous(memory_format=last) and not like.is_contiguous():
        return tensor.movedim(1, -1).reshape(len(tensor), -1)
    return tensor.reshape(len(tensor), -1)
