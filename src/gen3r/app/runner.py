"""The server's side of the work: takes one job after another from the store and hands it to the worker's process."""

import multiprocessing
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from gen3r.app.preview import Preview
from gen3r.app.store import MAX_WAITING, Store, write_job
from gen3r.app.uploads import Upload
from gen3r.app.worker import PREVIEW, Loader, work
from gen3r.errors import InputError
from gen3r.jobs import Job

PATIENCE = 10.0  # [s] after which a worker that does not let go of a cancelled job is ended


class Process(Protocol):
    """What runs a worker."""

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def join(self) -> None: ...


def worker_process(connection: Connection, load: Loader, folder: Path) -> Process:
    """A worker in a process of its own."""
    context = multiprocessing.get_context("spawn")
    return context.Process(target=work, args=(connection, load, folder), daemon=True)


class Runner:
    """One worker, and a thread that keeps it busy. A worker that dies is replaced."""

    def __init__(
        self, store: Store, load: Loader, process: Callable[..., Process] = worker_process, patience: float = PATIENCE
    ) -> None:
        self._store, self._load, self._new_process, self._patience = store, load, process, patience
        self._previews: deque[tuple[Path, Future[Preview]]] = deque()
        self._closing = False
        self._current: str | None = None
        self._connection: Connection | None = None
        self._process: Process | None = None
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Loads the model, and begins with the oldest waiting job."""
        shutil.rmtree(self._store.folder / "previews", ignore_errors=True)  # of an earlier server
        self._thread.start()

    def close(self) -> None:
        """Ends the worker, whatever it is doing; its job waits for the next server."""
        self._closing = True
        self._kill()
        self._store.notify()
        if self._thread.is_alive():
            self._thread.join()

    def preview(self, job: Job, uploads: Sequence[Upload] = ()) -> "Future[Preview]":
        """The preview of a job, after what is running. Arguments and errors as `write_job`.

        Raises:
            InputError: too many are waiting.
        """
        if len(self._previews) >= MAX_WAITING:
            raise InputError("many others are waiting for a preview; try again later")
        folder = self._store.folder / "previews" / secrets.token_hex(8)
        write_job(folder, self._store.defaults, job, uploads)
        future: Future[Preview] = Future()
        self._previews.append((folder, future))
        self._store.notify()
        return future

    def cancel(self, name: str) -> None:
        """Takes a job from the queue, or ends it in the middle of a step."""
        folder = self._store.path(name)
        self._store.cancel(name)
        self._stop(name, folder)

    def delete(self, name: str) -> None:
        """Removes a job; ends it first."""
        folder = self._store.path(name)
        self._store.delete(name)
        self._stop(name, folder)

    def _stop(self, name: str, folder: Path) -> None:
        """Tells the worker to let go of a job, and ends the worker if it does not."""
        if name != self._current or self._connection is None:
            return
        with suppress(OSError):
            self._send("cancel", folder)
        timer = threading.Timer(self._patience, lambda: self._kill() if name == self._current else None)
        timer.daemon = True
        timer.start()

    def _run(self) -> None:
        self._connect()
        while not self._closing:
            task = self._store.wait(self._next)
            if isinstance(task, str):
                self._generate(task)
            elif not self._closing:
                self._preview(*task)
        self._disconnect()

    def _next(self) -> Any:
        """A preview, for which somebody waits, else a job."""
        if self._closing or self._previews:
            return self._closing or self._previews.popleft()
        self._current = self._store.take()
        return self._current

    def _generate(self, name: str) -> None:
        failure = self._do("generate", self._store.folder_of(name), name)
        self._current = None
        if failure is not None:
            self._store.finish(name, failure)
        elif not self._closing:
            self._store.died(name)

    def _preview(self, folder: Path, future: "Future[Preview]") -> None:
        failure = self._do(PREVIEW, folder)
        try:
            if failure:
                raise InputError(failure)
            if failure is None:
                raise InputError("the model's process died; there may be too little memory for these settings")
            preview = Preview.load(folder / PREVIEW)
        except InputError as error:
            shutil.rmtree(folder, ignore_errors=True)
            future.set_exception(error)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            future.set_result(preview)

    def _do(self, what: str, folder: Path, name: str | None = None) -> str | None:
        """Has the worker do a task; returns its message of failure, "" if there is none, None where it died."""
        try:
            if self._connection is None:
                self._connect()
            assert self._connection is not None
            if name is not None and self._store.phase(name) != "running":
                return "cancelled"
            self._send(what, folder)
            while True:
                match self._connection.recv():
                    case "step", step, steps, doing if name is not None:
                        self._store.progress(name, step, steps, doing)
                    case ("done",):
                        return ""
                    case "failed", message:
                        return message
                    case _:
                        self._store.notify()
        except (EOFError, OSError):
            self._disconnect()
            return None

    def _send(self, what: str, folder: Path) -> None:
        with self._sending:
            if self._connection is not None:
                self._connection.send((what, folder))

    def _connect(self) -> None:
        self._connection, other = multiprocessing.Pipe()
        process = self._process = self._new_process(other, self._load, self._store.folder)
        process.start()
        if isinstance(process, BaseProcess):
            other.close()  # the process has its own

    def _disconnect(self) -> None:
        """Sees a dead worker off."""
        self._kill()
        if self._process is not None:
            self._process.join()
        with self._sending:
            self._connection = self._process = None

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()
