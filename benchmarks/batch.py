"""Scenes of nano in processes of a plain Python loop, and the same by `gen3r batch` on Ray: time and processor time.

python benchmarks/batch.py [--jobs 12] [--workers 2]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psutil

from gen3r import Gen3RPipeline
from gen3r.batch.tasks import Task
from gen3r.batch.worker import Settings, Worker
from gen3r.jobs import Job
from gen3r.request import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure("loop", args.jobs, lambda: loop(Path(folder) / "loop", args.jobs, args.workers))
        measure("Ray", args.jobs, lambda: on_ray(Path(folder), args.jobs, args.workers))


def measure(name: str, jobs: int, work) -> None:
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    of_others = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = of_others + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = time.monotonic() - start
    print(f"{name}: {jobs} scenes in {seconds:.1f} s, {processor:.1f} s of processor time, starts included", flush=True)


def loop(out: Path, jobs: int, workers: int) -> float:
    tasks = [Task(id=f"{i:016x}", line=i, job=Job(seed=i, request=Request(prompt="a room"))) for i in range(jobs)]
    load = partial(Gen3RPipeline.from_pretrained, "nano")
    settings = Settings(load=load, out=out, model="", threads=max(1, (os.cpu_count() or 1) // workers))
    with get_context("spawn").Pool(workers) as pool:
        pool.starmap(make, [(settings, tasks[i::workers]) for i in range(workers)])
        pool.close()
        pool.join()
    return 0.0


def make(settings: Settings, tasks: list[Task]) -> None:
    worker = Worker(settings)
    assert all(record.status == "done" for task in tasks for record in worker.make([task]))


def on_ray(folder: Path, jobs: int, workers: int) -> float:
    """Returns the processor time of Ray's processes, which are not our children."""
    (folder / "jobs.jsonl").write_text('{"prompt": "a room"}\n')
    options = ["--seeds", str(jobs), "--workers", str(workers)]
    command = [sys.executable, "-m", "gen3r.cli.main", "batch", folder / "jobs.jsonl", folder / "ray", *options]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    times: dict[int, float] = {}
    while driver.poll() is None:
        for process in psutil.Process(driver.pid).children(recursive=True):
            try:
                user, system, *_ = process.cpu_times()
                times[process.pid] = user + system
            except psutil.Error:
                continue
        time.sleep(0.5)
    assert driver.returncode == 0
    return sum(times.values())


if __name__ == "__main__":
    main()
