"""Scenes of nano in processes of a plain Python loop, and the same by `gen3r batch` on Ray, in turn.

python benchmarks/batch.py [--jobs 12] [--workers 2] [--rounds 3]

Prints time and processor time with the starts, and scenes a minute without them: from when as many scenes as there are
workers are on the disk, to the last one.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ratios = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            plain = measure("loop", args.jobs, Path(folder) / "loop", args.workers, loop)
            ratios.append(measure("Ray", args.jobs, Path(folder) / "ray", args.workers, on_ray) / plain)
    print(f"scenes a minute, Ray / loop: {statistics.median(ratios):.2f} (median), {min(ratios):.2f}-{max(ratios):.2f}")


def measure(name: str, jobs: int, out: Path, workers: int, work: Callable[[Path, int, int], float]) -> float:
    """Scenes a minute. work: returns the processor time of processes that are not our children."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    of_others = work(out, jobs, workers)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = of_others + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds, written = time.monotonic() - start, sorted(p.stat().st_mtime for p in out.glob("scenes/*/job.json"))
    rate = 60 * (jobs - workers) / (written[-1] - written[workers - 1])
    print(
        f"{name}: {jobs} scenes in {seconds:.1f} s, {processor:.1f} s of processor time; {rate:.1f} a minute",
        flush=True,
    )
    return rate


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


def on_ray(out: Path, jobs: int, workers: int) -> float:
    table = out.parent / "jobs.jsonl"
    table.write_text('{"prompt": "a room"}\n')
    options = ["--seeds", str(jobs), "--workers", str(workers)]
    command = [sys.executable, "-m", "gen3r.cli.main", "batch", table, out, *options]
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
