"""Where tasks are made: one after another in this process, or by Ray Data's pool of actors, here or on a cluster."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from gen3r.batch.outputs import Record
from gen3r.batch.tasks import Task
from gen3r.batch.worker import Settings, Worker, from_row, to_row
from gen3r.errors import InputError

RESTARTS = 3  # times that the engine gives a batch of tasks to another worker when one dies
STARTS = 3  # of a cluster of our own: Ray waits 30 s for its processes, which a busy machine may exceed
OBJECT_STORE = 200_000_000  # bytes; rows are small, since scenes go to the disk


def make_here(groups: Sequence[Sequence[Task]], settings: Settings) -> Iterator[Record]:
    """The records of tasks, made in this process."""
    worker = Worker(settings)
    for tasks in groups:
        yield from worker.make(tasks)


@contextmanager
def ray_cluster(address: str | None, workers: int | None) -> Iterator[None]:
    """A cluster of Ray for the block: the one at an address or in RAY_ADDRESS, else one of this machine's own.

    workers: how many a cluster of our own must have room for, beyond its CPUs if need be.

    Raises:
        InputError: Ray is not installed or does not start, or no cluster answers.
    """
    check_installed(workers)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its warnings are about its own insides
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # pages of text on stdout for each worker that died
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    if workers and workers > (os.cpu_count() or 1):
        own["num_cpus"] = workers
    for start in reversed(range(STARTS if address == "local" else 1)):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {}))
            break
        except Exception as error:  # Ray has no class of its own for a start that takes longer than it waits
            if not start:
                where = "on this machine; --workers 0 works without" if address == "local" else f"at {address}"
                raise InputError(f"Ray does not run {where} ({str(error).splitlines()[0]})") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_installed(workers: int | None) -> None:
    """Refuses to go on without the libraries that a batch needs.

    Raises:
        InputError: says what to install.
    """
    for package in ("pyarrow", *(["ray"] if workers != 0 else [])):
        if find_spec(package) is None:
            raise InputError(f"batches need {package}: pip install 'gen3r[batch]'")


def make_on_ray(groups: Sequence[Sequence[Task]], settings: Settings, workers: int | None = None) -> Iterator[Record]:
    """The records of tasks as they are made by a pool of workers on the cluster of `ray_cluster`, in any order.

    workers: at most so many; by default one a GPU of the cluster, or one a CPU where there is none. Each takes its
    share of the CPUs. A worker that dies, with its machine or alone, is replaced, and others get its tasks. A group
    that outlives no worker has no records.

    Raises:
        InputError: no worker can start.
    """
    import ray
    import ray.data
    import ray.exceptions

    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 1)), int(there.get("GPU", 0))
    workers = workers or gpus or cpus
    threads = max(1, cpus // workers)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a lost group is no reason to stop
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    rows = ray.data.from_items([to_row(tasks) for tasks in groups], override_num_blocks=min(len(groups), 10_000))
    pool = ray.data.ActorPoolStrategy(  # with its next task at hand, a worker never waits for the scheduler
        min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
    )
    made = rows.flat_map(
        Worker,
        fn_constructor_args=(replace(settings, threads=threads),),
        compute=pool,
        num_cpus=threads,
        num_gpus=1 if gpus else 0,
        max_restarts=-1,
        max_task_retries=RESTARTS,
    )
    try:
        for row in made.iter_rows():
            yield from_row(row)
    except ray.exceptions.RayError as error:  # such as a model that no worker can load
        text = str(error).strip().splitlines()
        raise InputError(f"the workers gave up: {text[-1] if text else type(error).__name__}") from error
