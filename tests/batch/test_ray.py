"""Batches on Ray, here and on a cluster, whose processes are killed: all scenes are made, whole, once, the same."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image

from gen3r.cli.main import main

pytestmark = pytest.mark.nightly  # Ray gives its processes 30 seconds to start
TRIES = 4  # of a start of Ray, which may fail on a busy machine
Process = subprocess.Popen[bytes]


@pytest.fixture(autouse=True)
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where Ray keeps its files, with a name that is short enough for its sockets. What still runs there is killed."""
    folder = tempfile.mkdtemp(prefix="ray")
    settings = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    settings |= {"RAY_AUTH_MODE": "disabled"}  # else it leaves a token in the home folder
    settings |= {"TQDM_MININTERVAL": "0", "TQDM_MINITERS": "1"}  # a bar that shows every scene
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    try:
        yield folder
    finally:
        kill([p for p in psutil.process_iter() if p.pid != os.getpid() and folder in _own_folder(p)])
        shutil.rmtree(folder, ignore_errors=True)


def _own_folder(process: psutil.Process) -> str:
    try:
        return process.environ().get("RAY_TMPDIR", "")
    except psutil.Error:
        return ""


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def workers(name: str = "ray::MapWorker") -> list[psutil.Process]:
    """The processes of this test's batches that hold a model."""
    found, own = [], os.environ["RAY_TMPDIR"]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if _own_folder(process) == own and process.cmdline()[0].startswith(name):
                found.append(process)
    return found


def save_jobs(folder: Path, count: int) -> Path:
    path = folder / "jobs.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"room {i}", "seed": i}) + "\n" for i in range(count)))
    return path


def arguments(model: Path, table: Path, out: Path, *options: str) -> list[str]:
    clip = ["--steps", "1", "--frames", "1", "--guidance", "1", "--device", "cpu"]
    return ["batch", str(table), str(out), "--model", str(model), *clip, *options]


def settled(run: Process) -> Iterator[int]:
    """How many scenes a batch says are settled, each time that it does, until it ends."""
    assert run.stderr is not None
    while piece := run.stderr.read1(4096):  # pyright: ignore[reportAttributeAccessIssue]
        sys.stderr.write(piece.decode(errors="replace"))  # for whoever reads why a test failed
        yield from map(int, re.findall(rb"\| (\d+)/", piece))
    run.stderr.close()


def start(arguments: list[str]) -> Process:
    """A batch of which a scene is settled."""
    for _ in range(TRIES):
        run = subprocess.Popen([sys.executable, "-m", "gen3r.cli.main", *arguments], stderr=subprocess.PIPE)
        if any(settled(run)):
            break
        run.wait()
    return run


def finish(run: Process) -> None:
    for _ in settled(run):
        pass
    assert run.wait() == 0


def manifest(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "manifest.parquet").set_index("id")


def check_shards(out: Path, count: int) -> None:
    """Reads every file of a batch of single frames, and compares it with the manifest."""
    rows = manifest(out)
    assert (len(rows), rows.index.is_unique, set(rows.status)) == (count, True, {"done"})
    files: dict[str, dict[str, bytes]] = {}
    for path in (out / "shards").iterdir():
        with tarfile.open(path) as tar:
            for member in tar:
                name, _, rest = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None
                assert rest not in files.setdefault(name, {})
                assert rows.path[name] == f"shards/{path.name}"
                files[name][rest] = content.read()
    assert set(files) == set(rows.index)
    for name, scene in files.items():
        assert json.loads(scene.pop("job.json"))["checksum"] == rows.checksum[name]
        hashes = {file: hashlib.sha256(data).hexdigest() for file, data in scene.items()}
        assert hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest() == rows.checksum[name]
        assert np.asarray(Image.open(BytesIO(scene.pop("00000.png")))).shape == (112, 112, 3)
        with np.load(BytesIO(scene.pop("geometry.npz"))) as arrays:
            assert {key: len(arrays[key]) for key in arrays} == {"depth": 1, "T_world_camera": 1, "K_px": 1}
        assert scene.pop("txt").decode() == json.loads(rows.request[name])["prompt"]
        assert json.loads(scene.pop("metadata.json"))
        assert not scene
    left = [p for kind in ("scenes", "rejected") for p in (out / kind).glob("*")]
    assert not left + [p for p in out.rglob(".*") if p.name.endswith(".partial")]


def test_killed_workers_and_drivers_lose_nothing(model: Path, tmp_path: Path) -> None:
    count = 24
    options = ["--workers", "2", "--attempts", "3", "--format", "webdataset", "--shard", "5"]
    command = arguments(model, save_jobs(tmp_path, count), tmp_path / "out", *options)
    run = start(command)
    for number in settled(run):
        if number in (2, 5, 8):
            kill(workers()[:1])
        if number >= 11:
            run.kill()
    run.wait()
    run = start(command)  # while workers of the killed one may still write
    kill(workers()[-1:])
    finish(run)
    check_shards(tmp_path / "out", count)


class Cluster:
    """Nodes of one CPU each on this machine."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.nodes = [self._node("--head", "--port", self.address.split(":")[1], "--include-dashboard", "false")]
        self.nodes += [self._node("--address", self.address) for _ in range(2)]

    def _node(self, *options: str) -> Process:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", "127.0.0.1"]
        command += ["--num-cpus", "1", "--object-store-memory", "100000000", *options]
        command += ["--min-worker-port", "0", "--max-worker-port", "0"]  # any that are free
        for _ in range(TRIES):
            node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert node.stdout is not None
            if any(b"Ray runtime started" in line for line in node.stdout):
                break
            node.stdout.close()
            node.wait()
        return node

    def lose(self) -> None:
        """Kills the last node with all its processes, as a loss of power does."""
        node = self.nodes.pop()
        process = psutil.Process(node.pid)
        kill([process, *process.children(recursive=True)])
        assert node.stdout is not None
        node.stdout.close()
        node.wait()

    def close(self) -> None:
        while self.nodes:
            self.lose()


def test_a_cluster_that_loses_a_node_makes_the_scenes_of_one_process(model: Path, tmp_path: Path) -> None:
    count = 24
    table = save_jobs(tmp_path, count)
    with closing(Cluster()) as cluster:
        run = start(arguments(model, table, tmp_path / "cluster", "--ray", cluster.address))
        for number in settled(run):
            if number == 6:
                cluster.lose()
        assert run.wait() == 0
    assert torch.get_num_threads() == 1  # as in the workers; other numbers round otherwise
    assert main(arguments(model, table, tmp_path / "here", "--workers", "0")) == 0
    columns = ["status", "checksum", "path"]
    assert manifest(tmp_path / "cluster")[columns].equals(manifest(tmp_path / "here")[columns])
    assert set(manifest(tmp_path / "here").status) == {"done"}
