"""The same work on many scenes or shards, in this process or in several."""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """scene: its name. there: an earlier run did the work. error: why nothing was done, if so."""

    scene: str
    there: bool = False
    error: str = ""


def in_parallel(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result]:
    """The results in order. After a failure, or when the caller stops, running jobs finish and no other starts.

    A worker does not outlive this process. It is no copy of it: where Embree or OpenMP have run, a copy would wait for
    threads that it lacks. So scripts that call this need `if __name__ == "__main__"`.
    """
    jobs = list(jobs)
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    if os.name == "nt":
        context = get_context("spawn")
    else:
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])  # loads torch once
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        yield from pool.map(work, jobs)


def _start_worker() -> None:
    """One thread per process; the parent handles an interruption."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process as soon as its parent has ended, however that was."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
