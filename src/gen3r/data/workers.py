"""The same work on many scenes or shards, in this process or in several."""

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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


def in_parallel(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """The results in order. After a failure, or when the caller stops, running jobs finish and no other starts."""
    if workers == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        yield from pool.map(work, jobs)


def _start_worker() -> None:
    """One thread per process; the parent handles an interruption."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
