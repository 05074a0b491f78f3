"""The process that keeps the model and does one job after another.

It is told ("generate", folder), ("preview", folder) and ("cancel", folder), and tells ("ready",), ("step", i, n,
what it does), ("picture",), ("done",) and ("failed", message). When its connection closes, it ends.
"""

import signal
import threading
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from gen3r.app.preview import FormingPicture, preview_path
from gen3r.app.store import JOB, PICTURE, RESULT
from gen3r.errors import InputError, out_of_memory
from gen3r.export.save import save_scene
from gen3r.files import whole_file
from gen3r.jobs import Job
from gen3r.pipeline import Gen3RPipeline

Loader = Callable[[], Gen3RPipeline]
PREVIEW = "preview"


class Cancelled(Exception):
    """Ends a job at the next layer of the network."""


def work(connection: Connection, load: Loader, folder: Path) -> None:
    """Loads the model and serves `connection`. One worker at a time has `folder`: after a server that was killed, its
    worker may still be busy."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this process
    with FileLock(folder / "worker.lock", thread_local=False):
        _Worker(connection).run(load)


class _Worker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks: SimpleQueue[tuple[str, Path] | None] = SimpleQueue()
        self._cancelled: set[Path] = set()
        self._closed = threading.Event()

    def run(self, load: Loader) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            pipe = load()
        except InputError as error:
            self._tell("failed", str(error))
            return
        pipe.set_progress_bar_config(disable=True)
        self._tell("ready")
        while (task := self._tasks.get()) is not None:
            self._do(pipe, *task)

    def _listen(self) -> None:
        """Takes messages while the model works."""
        try:
            while True:
                what, folder = self._connection.recv()
                if what == "cancel":
                    self._cancelled.add(folder)
                else:
                    self._tasks.put((what, folder))
        except (EOFError, OSError):
            self._closed.set()
            self._tasks.put(None)

    def _tell(self, *message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            self._closed.set()

    def _do(self, pipe: Gen3RPipeline, what: str, folder: Path) -> None:
        """Does a task, unless it was done already; tells how it ended."""

        def stop(*_: Any) -> None:
            if folder in self._cancelled or self._closed.is_set():
                raise Cancelled

        hook = torch.nn.modules.module.register_module_forward_pre_hook(stop)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if what == PREVIEW:
                    preview_path(pipe, Job.load(folder / JOB)).save(folder / PREVIEW)
                elif not (folder / RESULT).exists():
                    self._generate(pipe, folder, stop)
            self._tell("done")
        except Cancelled:
            self._tell("failed", "cancelled")
        except InputError as error:
            self._tell("failed", str(error).replace(f"{folder}/", ""))
        except Exception as error:  # one job's failure is not the next one's
            if out_of_memory(error):
                self._tell("failed", "out of memory; try fewer frames or a smaller size, or gen3r app --memory low")
            elif not isinstance(error, OSError) or folder.exists():
                self._tell("failed", f"{type(error).__name__}: {error}")
            else:
                self._tell("failed", "deleted")
        finally:
            hook.remove()
            self._cancelled.discard(folder)

    def _generate(self, pipe: Gen3RPipeline, folder: Path, stop: Callable[[], None]) -> None:
        forming = FormingPicture()

        def tell(doing: str, done: int, total: int) -> None:
            self._tell("step", done, total, doing)

        def after_step(_: Gen3RPipeline, step: int, t: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            stop()
            pipe.on_progress = None  # the forming picture is no step
            picture = forming.after_step(pipe, step, tensors["latents"])
            if picture is not None:
                with whole_file(folder / PICTURE) as partial:
                    picture.save(partial)
                self._tell("picture")
            tell("denoising", step + 1, len(pipe.scheduler.timesteps))
            pipe.on_progress = tell
            return {}

        pipe.on_progress = tell
        scene = Job.load(folder / JOB).generate(pipe, on_step=after_step)
        stop()
        tell("writing", 0, 0)
        save_scene(scene, folder / RESULT)
