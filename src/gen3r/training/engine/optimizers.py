"""Muon for the hidden matrices and convolutions, AdamW for everything else, behind one optimizer interface."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig


class StageOptimizer(torch.optim.Optimizer):
    """`torch.optim.Muon` on matrices of at least 16 rows and columns, `torch.optim.AdamW` on the rest or on everything.

    Convolutions count as matrices [out, in * kernel]. A weight with an attribute `step_scale`, a tensor that broadcasts
    with it, is stepped by Muon in units of that scale. Muon needs whole matrices, so these cannot be sharded.

    outside: parts of the names of matrices that Muon leaves to AdamW. fast: beside Muon, parts of the names of AdamW's
    parameters, and the factors of their learning rates.
    """

    def __init__(
        self,
        module: nn.Module,
        config: TrainConfig,
        outside: Sequence[str] = (),
        fast: Mapping[str, float] | None = None,
    ) -> None:
        named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        betas, factors = (0.9, 0.999), {}
        self._parts: list[tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]] = []
        self._matrices: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        if config.optimizer == "muon":
            hidden = {n: p for n, p in named.items() if _is_matrix(p) and not any(part in n for part in outside)}
            self._matrices = {n: (p, nn.Parameter(_as_matrix(p.data))) for n, p in hidden.items()}
            betas, factors = (0.9, 0.98), fast or {}
        if views := {n: view for n, (_, view) in self._matrices.items()}:
            muon = torch.optim.Muon(
                views.values(), config.learning_rate, config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append((muon, views))
        others = {n: p for n, p in named.items() if n not in self._matrices}
        groups = {1.0: [], **{factor: [] for factor in factors.values()}}
        for name, parameter in others.items():
            groups[next((factor for part, factor in factors.items() if part in name), 1.0)].append(parameter)
        adam_groups = [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]
        adam = torch.optim.AdamW(adam_groups, config.learning_rate, betas, weight_decay=config.weight_decay)
        self._parts.append((adam, others))
        super().__init__([*named.values()], {"lr": config.learning_rate})

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

    def states(self) -> dict[str, Tensor]:
        """Every state as `parameter name/key` -> tensor, so that a checkpoint needs no pickle.

        A parameter that was not stepped yet gets the zeros that its first step would start from.
        """
        return {f"{name}/{key}": value for name, _, state in self._states() for key, value in state.items()}

    def load_states(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `states`.

        Raises:
            InputError: a state is missing, or belongs to nothing that is trained. Nothing was changed.
        """
        if differing := sorted(self.states().keys() ^ tensors.keys()):
            what = "an unknown" if differing[0] in tensors else "no"
            raise InputError(f"has {what} optimizer state {differing[0]}, one of {len(differing)} that differ")
        for name, parameter, state in self._states():
            for key in state:
                value = tensors[f"{name}/{key}"]
                if value.ndim:  # counters of steps stay on the CPU
                    value = value.to(parameter.device)
                    if isinstance(parameter, DTensor):
                        value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
                state[key] = value

    def _states(self) -> Iterator[tuple[str, nn.Parameter, dict[str, Tensor]]]:
        """Name, parameter (Muon's: a view of it) and state of everything that is trained."""
        for inner, named in self._parts:
            adam = isinstance(inner, torch.optim.AdamW)
            for name, parameter in named.items():
                state = inner.state[parameter]
                if not state:
                    names = ("exp_avg", "exp_avg_sq") if adam else ("momentum_buffer",)
                    state.update({key: torch.zeros_like(parameter.data) for key in names})
                    state.update({"step": torch.tensor(0.0)} if adam else {})
                yield name, parameter, state


def _is_matrix(parameter: Tensor) -> bool:
    """Whether a weight has at least 16 rows and columns."""
    return parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) >= 16


def _as_matrix(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """[out, rest] of a weight, sharing its memory whether the channels come first or last in it.

    `like`: lay the columns out as that tensor's.
    """
    like = tensor if like is None else like
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.ndim)
    if last is not None and like.is_contiguous(memory_format=last) and not like.is_contiguous():
        return tensor.movedim(1, -1).reshape(len(tensor), -1)
    return tensor.reshape(len(tensor), -1)
