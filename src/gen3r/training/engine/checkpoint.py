"""A stage's checkpoints: whole or not there, the newest two and every n-th, and what to do when one is damaged."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from gen3r.errors import InputError
from gen3r.files import whole_file
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.optimizers import StageOptimizer
from gen3r.training.stages.stage import Stage

CHECKPOINT = "checkpoint.safetensors"


class Checkpoint:
    """A stage's trained weights, their moving average and the optimizer's state in one folder, as safetensors.

    `checkpoint.safetensors` is the newest; `checkpoint-0000120.safetensors` is an older one that was kept. The data and
    noise of a step follow from the seed and the step, so a checkpoint stores only the step. Sharded weights are stored
    whole: a checkpoint does not depend on the number of processes.
    """

    def __init__(
        self, folder: Path, stage: Stage, optimizer: StageOptimizer, config: TrainConfig, main: bool = True
    ) -> None:
        self.path = folder / CHECKPOINT
        self.stage, self.optimizer, self.config, self.main = stage, optimizer, config, main
        self.trained = {n: p for n, p in stage.named_parameters() if p.requires_grad}
        self.ema = {n: p.detach().clone() for n, p in self.trained.items()}
        self.step = 0  # of the newest checkpoint

    @torch.no_grad()
    def update_ema(self, step: int) -> None:
        """Moves the average towards the weights; early steps are forgotten sooner."""
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.trained.values()], 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The stage with its averaged weights, and in evaluation mode, for the time of a block."""
        weights = {n: p.detach().clone() for n, p in self.trained.items()}
        training = {m: m.training for m in self.stage.modules()}
        _assign(self.trained, self.ema)
        self.stage.eval()
        try:
            yield
        finally:
            _assign(self.trained, weights)
            for module, mode in training.items():
                module.training = mode

    def save(self, step: int) -> None:
        """Writes everything to a temporary name and renames it. All processes call it where weights are sharded.

        Raises:
            InputError: the folder is full or cannot be written to, or weights are not finite; the checkpoint before is
                whole.
        """
        tensors: dict[str, Tensor] = {f"model/{n}": p.detach() for n, p in self.trained.items()}
        tensors |= {f"ema/{n}": p for n, p in self.ema.items()}
        tensors |= {f"optimizer/{n}": t for n, t in self.optimizer.states().items()}
        tensors = {n: (t.full_tensor() if isinstance(t, DTensor) else t).contiguous() for n, t in tensors.items()}
        if not self.main:
            return
        if bad := [n for n, t in tensors.items() if not n.startswith("optimizer/") and not t.isfinite().all()]:
            raise InputError(
                f"{len(bad)} weights are not finite after step {step}, {bad[0]} among them; go on from the checkpoint "
                "before, or start anew, with a lower --learning-rate"
            )
        metadata = {"step": str(step), "stage": self.stage.name, "config": json.dumps(self._settings())}
        try:
            with whole_file(self.path) as partial:
                save_file(tensors, partial, metadata)
                self._keep_present()
        except InputError as error:
            left = f"the checkpoint of step {self.step} is whole" if self.step else "there is no checkpoint yet"
            raise InputError(f"{error}; {left}, and the same command goes on from there") from error
        self.step = step

    def load(self) -> int:
        """Restores a saved state; returns the step to go on from, 0 without a checkpoint.

        One warning lists what has changed in the configuration or the stage's settings since.

        Raises:
            InputError: the checkpoint is damaged, or of another stage, optimizer or model size.
        """
        if not self.path.exists():
            return 0
        with open_checkpoint(self.path) as file:
            self._check(file, file.metadata())
            try:
                self.optimizer.load_states(_tensors(file, "optimizer/"))
            except InputError as error:
                raise InputError(f"{self.path} {error}; remove it, or choose another folder") from error
            _assign(self.trained, _tensors(file, "model/"))
            _assign(self.ema, _tensors(file, "ema/"))
            self.step = int(file.metadata()["step"])
        return self.step

    def _check(self, file: Any, metadata: dict[str, str]) -> None:
        """Refuses what cannot go on from this file, and warns of what has changed."""
        if metadata["stage"] != self.stage.name:
            raise InputError(f"{self.path} belongs to stage {metadata['stage']}; choose another folder")
        stored = {n: file.get_slice(n).get_shape() for n in file.keys() if not n.startswith("optimizer/")}
        if stored != {f"{kind}/{n}": list(p.shape) for n, p in self.trained.items() for kind in ("model", "ema")}:
            raise InputError(f"{self.path} was made with other model sizes; choose another folder or remove it")
        before, now = json.loads(metadata["config"]), json.loads(json.dumps(self._settings()))
        if before["optimizer"] != now["optimizer"]:
            raise InputError(
                f"{self.path} holds the state of the optimizer {before['optimizer']}; go on with it or start anew"
            )
        changed = [f"{k} {v} -> {now[k]}" for k, v in before.items() if k in now and now[k] != v]
        if changed and self.main:
            warnings.warn(
                f"{self.stage.name} goes on at step {metadata['step']} with {', '.join(changed)}", stacklevel=3
            )

    def _settings(self) -> dict[str, Any]:
        """How the stage is run, and what it was made with."""
        return {**asdict(self.config), **self.stage.settings}

    def _keep_present(self) -> None:
        """Gives the present checkpoint a name of its own, and removes the older ones that are not kept."""
        if not self.path.exists() or not self.step:
            return
        kept = self.path.with_stem(f"{self.path.stem}-{self.step:07d}")
        kept.unlink(missing_ok=True)
        try:
            os.link(self.path, kept)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.path, kept)
        every = self.config.keep_every
        for number, path in _older(self.path):
            if path != kept and not (every and number % every == 0):
                path.unlink()


def saved_step(folder: Path, name: str = CHECKPOINT) -> int:
    """The step that a checkpoint in a stage's folder, by default the newest, goes on from; 0 without one."""
    path = folder / name
    if not path.exists():
        return 0
    with open_checkpoint(path) as file:
        return int(file.metadata()["step"])


def checkpoint_settings(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint in a stage's folder was made with; nothing without one."""
    if not (folder / CHECKPOINT).exists():
        return {}
    with open_checkpoint(folder / CHECKPOINT) as file:
        return json.loads(file.metadata()["config"])


def holds(folder: Path, prefix: str) -> bool:
    """Whether a stage's folder has a checkpoint with averaged weights whose names start with `prefix`."""
    path = folder / CHECKPOINT
    if not path.exists():
        return False
    with open_checkpoint(path) as file:
        return any(name.startswith(f"ema/{prefix}") for name in file.keys())


@torch.no_grad()
def load_average(folder: Path, module: nn.Module, prefix: str, name: str = CHECKPOINT) -> None:
    """Puts a stage's averaged weights whose names start with `prefix` into `module` (the rest stay).

    name: of one of the folder's checkpoints, by default the newest.
    """
    path = folder / name
    if not path.exists():
        raise InputError(f"{path} does not exist; train that stage first")
    with open_checkpoint(path) as file:
        _assign(dict(module.named_parameters()), _tensors(file, f"ema/{prefix}"))


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Any]:
    """The open file.

    Raises:
        InputError: it is damaged; the message names the newest one that is whole.
    """
    if reason := _damage(path):
        whole = [older.name for _, older in _older(path) if not _damage(older)]
        way = f"copy {whole[-1]} over it to go on from there" if whole else "remove it to start the stage anew"
        raise InputError(f"{path} is damaged ({reason}); {way}")
    with safe_open(str(path), framework="pt") as file:
        yield file


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint file; nothing where it is whole."""
    try:
        with safe_open(str(path), framework="pt") as file:
            missing = {"step", "stage", "config"} - set(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        return str(error)
    return f"it lacks {', '.join(sorted(missing))}" if missing else ""


def _older(path: Path) -> list[tuple[int, Path]]:
    """Steps and paths of the kept checkpoints, oldest first."""
    found = ((re.fullmatch(rf"{path.stem}-(\d+)", p.stem), p) for p in path.parent.glob(f"{path.stem}-*{path.suffix}"))
    return sorted((int(match[1]), p) for match, p in found if match)


def _tensors(file: Any, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file whose names start with `prefix`, without it."""
    return {n.removeprefix(prefix): file.get_tensor(n) for n in file.keys() if n.startswith(prefix)}


@torch.no_grad()
def _assign(parameters: dict[str, Any], values: dict[str, Tensor]) -> None:
    """Copies values into the parameters of the same names."""
    for name, value in values.items():
        parameter, value = parameters[name], value.to(parameters[name].device)
        if isinstance(parameter, DTensor) and not isinstance(value, DTensor):
            value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
        parameter.copy_(value)
