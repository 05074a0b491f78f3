"""One scene on several devices: a process on each, which share the transformer's tokens (context parallelism)."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gen3r.cli.common import ModelOptions, pick_device, show_warning
from gen3r.errors import InputError
from gen3r.request import Request

if TYPE_CHECKING:
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

Generate = Callable[[ModelOptions], "Scene"]
_ERROR = "error"


def check_devices(count: int, model: ModelOptions, request: Request) -> None:
    """Refuses a number of devices that are not there, or that a resolved request cannot be split over.

    Raises:
        InputError: says which numbers there are.
    """
    import torch

    from gen3r.checkpoints.load import transformer_config
    from gen3r.models.transformer import HEADS, check_split

    device = pick_device(model.device)
    if device.index is not None:
        raise InputError(f"{count} devices need the name of their kind, such as {device.type}; not {model.device}")
    there = torch.accelerator.device_count()
    if device.type != "cpu" and count > there:
        raise InputError(f"there are {there} devices of the kind {device.type} here, not {count}")
    if request.fast:
        raise InputError("a cache of steps is of one device; leave out --fast or --devices")
    check_split(request.num_tokens, transformer_config(model.model).get("num_attention_heads", HEADS), count)


def on_devices(count: int, model: ModelOptions, generate: Generate) -> "Scene":
    """What `generate` makes in each of `count` processes, which know each other; ends with the first that fails.

    generate: takes the model's options, with a device of its own in each process; calls `split_tokens`.

    Raises:
        InputError: as in the processes; or one was killed.
    """
    from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, spawn

    from gen3r.scene import Scene

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it tells whom it ends after an error
    with TemporaryDirectory() as folder:
        processes = spawn(_generate, (count, Path(folder), model, generate), count, join=False)
        assert processes is not None
        try:
            while not processes.join():
                pass
        except ProcessException as error:
            if (Path(folder) / _ERROR).exists():  # others may have failed since they heard no more of that one
                raise InputError((Path(folder) / _ERROR).read_text(encoding="utf-8")) from error
            if isinstance(error, ProcessExitedException):
                raise InputError(f"a process of {count} was ended from outside, perhaps for its memory") from error
            raise
        finally:
            for process in filter(None, processes.processes):
                process.kill()
        return Scene.load(folder)


def split_tokens(pipe: "Gen3RPipeline") -> bool:
    """Whether this is a process of `on_devices`. If so, its transformer works on its share of the tokens."""
    import torch
    from diffusers import ContextParallelConfig

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    count = torch.distributed.get_world_size()
    pipe.transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=count))
    return True


def _generate(rank: int, count: int, folder: Path, model: ModelOptions, generate: Generate) -> None:
    """What each process does. Only the first one speaks, and keeps the scene."""
    from gen3r.scene import SCENE_FILE

    warnings.showwarning = show_warning
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere if rank else sys.stderr):
        try:
            scene = _in_group(rank, count, folder, model, generate)
        except InputError as error:
            (folder / _ERROR).write_text(str(error), encoding="utf-8")
            sys.exit(2)
    if rank == 0:
        scene.save(folder / SCENE_FILE)


def _in_group(rank: int, count: int, folder: Path, model: ModelOptions, generate: Generate) -> "Scene":
    import torch
    from diffusers.utils.logging import set_verbosity_error

    set_verbosity_error()  # context parallelism is new in diffusers, which says so
    device = pick_device(model.device)
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    else:
        device = torch.device(device.type, rank)
        torch.accelerator.set_device_index(rank)
    backend = torch.distributed.get_default_backend_for_device(device)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=count)
    try:
        return generate(replace(model, device=str(device)))
    finally:
        torch.distributed.destroy_process_group()
