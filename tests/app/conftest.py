"""Shared by the tests of the app: small uploads, a store, and workers in threads, which start faster than processes."""

import io
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen3r.app.runner import Runner
from gen3r.app.store import Store
from gen3r.app.uploads import Upload, check_upload
from gen3r.app.worker import Loader, work
from gen3r.jobs import Job
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request
from tests.tiny import tiny_pipeline

LONG = 120  # [s] in which what a test waits for surely happens


def photo_bytes(seed: int = 0, size: tuple[int, int] = (112, 112), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def photo(seed: int = 0) -> Upload:
    return check_upload(photo_bytes(seed))


def quick_job(**changes: object) -> Job:
    """As few steps and pixels as there can be."""
    request = Request(**{"num_inference_steps": 2, "output_size": 0, **changes})
    return Job(request=request, camera="dolly_in")


class WorkerThread:
    """A worker in this process. `kill` cuts its connection, which ends it."""

    def __init__(self, connection: Connection, load: Loader, folder: Path) -> None:
        self._thread = threading.Thread(target=work, args=(connection, load, folder), daemon=True)
        self._connection = connection

    def start(self) -> None:
        self._thread.start()

    def kill(self) -> None:
        with socket.socket(fileno=os.dup(self._connection.fileno())) as pipe:
            pipe.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        self._thread.join()


@pytest.fixture(scope="session")
def pipe() -> Gen3RPipeline:
    return tiny_pipeline()


@pytest.fixture
def store(tmp_path: Path, pipe: Gen3RPipeline) -> Iterator[Store]:
    store = Store(tmp_path / "app", pipe.defaults)
    yield store
    store.close()


@pytest.fixture
def runner(store: Store, pipe: Gen3RPipeline) -> Iterator[Runner]:
    runner = Runner(store, lambda: pipe, WorkerThread)
    yield runner
    runner.close()


@pytest.fixture
def ended(store: Store) -> Callable[..., str]:
    """Waits until a job has ended; returns how."""

    def wait(name: str) -> str:
        over = {"done", "failed", "cancelled"}
        assert store.wait(lambda: store.states()[name].phase in over, LONG), store.states()
        return store.states()[name].phase

    return wait


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that tiny models predict nonsense
        yield
