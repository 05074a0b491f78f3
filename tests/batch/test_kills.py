"""Batches whose workers, driver and machines are killed: after reruns all scenes are there, once and whole."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image
from ray.cluster_utils import Cluster

from gen3r.cli.main import main

pytestmark = pytest.mark.nightly  # Ray gives its processes 30 seconds to start
OPTIONS = ["--steps", "1", "--frames", "1", "--out-size", "0", "--guidance", "1", "--device", "cpu"]
JOBS = 40


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Path:
    """A folder with a table and, under a relative name, a model and a photo."""
    (tmp_path / "tiny").symlink_to(model)
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "a.png")
    kinds = {"prompt": "a room"}, {"inputs": ["a.png"], "camera": "dolly_in"}
    lines = [json.dumps({**kinds[seed % 2], "seed": seed}) for seed in range(JOBS)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    return tmp_path


def start(place: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gen3r.cli.main", "batch", "jobs.jsonl", "out", "--model", "tiny", *OPTIONS]
    return subprocess.Popen([*command, *options], cwd=place, stderr=subprocess.PIPE, text=True)


def settled(place: Path) -> int:
    file = place / "out" / "progress.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def wait_for(place: Path, driver: subprocess.Popen[str], scenes: int) -> None:
    while settled(place) < scenes:
        assert driver.poll() is None, driver.communicate()[1]


def workers(process: psutil.Process) -> list[psutil.Process]:
    """Those that have started and hold a model, or load it."""
    return [p for p in process.children(recursive=True) if "MapWorker" in " ".join(p.cmdline())]


def check_manifest(place: Path) -> pd.DataFrame:
    """All jobs are done, and nothing is left half-written."""
    rows = pd.read_parquet(place / "out" / "manifest.parquet")
    assert sorted(rows.line) == [*range(1, JOBS + 1)]
    assert set(rows.status) == {"done"}
    assert rows.id.is_unique
    assert not [*(place / "out").rglob(".*")]
    return rows


def test_killed_workers_and_a_killed_driver_lose_nothing(place: Path) -> None:
    options = ["--workers", "2", "--format", "webdataset", "--shard", "7"]
    with start(place, *options) as driver:
        wait_for(place, driver, 2)
        workers(psutil.Process(driver.pid))[0].kill()
        wait_for(place, driver, 4)
        there = settled(place)
        driver.kill()
    assert driver.returncode == -signal.SIGKILL
    assert there < JOBS
    with start(place, *options) as driver:
        wait_for(place, driver, there + 2)
        os.kill(driver.pid, signal.SIGINT)
        said = driver.communicate()[1]
    assert driver.returncode == 130, said
    with start(place, *options) as driver:
        said = driver.communicate()[1]
    assert driver.returncode == 0, said
    rows = check_manifest(place)
    samples: list[str] = []
    for shard in sorted((place / "out" / "shards").iterdir()):
        with tarfile.open(shard) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # pyright: ignore[reportOptionalMemberAccess]
        names = [name.partition(".")[0] for name in files if name.endswith(".job.json")]
        samples += names
        for name in names:
            Image.open(io.BytesIO(files[f"{name}.00000.png"])).load()
            assert np.isfinite(np.load(io.BytesIO(files[f"{name}.geometry.npz"]))["depth"]).all()
    assert sorted(samples) == sorted(rows.id)
    assert not [*(place / "out" / "scenes").iterdir()]
    with start(place, *options, "--verify") as driver:
        assert f"{JOBS} of {JOBS} scenes are there; making 0" in driver.communicate()[1]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three machines with a processor each, which are processes of this one, started in another folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def test_a_cluster_makes_the_same_bytes_and_survives_the_loss_of_a_node(cluster: Cluster, place: Path) -> None:
    with start(place, "--ray", str(cluster.address), "--workers", "3") as driver:
        wait_for(place, driver, 2)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        there = settled(place)
        said = driver.communicate()[1]
    assert driver.returncode == 0, said
    assert there < JOBS
    rows = check_manifest(place)
    paths = [str(place / name) for name in ("jobs.jsonl", "local")]
    assert main(["batch", *paths, "--model", str(place / "tiny"), *OPTIONS, "--workers", "0"]) == 0
    local = pd.read_parquet(place / "local" / "manifest.parquet")
    assert rows[["id", "checksum"]].equals(local[["id", "checksum"]])
