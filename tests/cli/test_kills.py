"""Commands that are killed at random moments: nothing half-written, nothing left running, and the next run works."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from gen3r.data.synthesis import synthesize
from gen3r.export.save import WRITERS
from tests.tiny import tiny_pipeline

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
COMMANDS = {
    "generate": "generate photo.png --model tiny --steps 20 --out made",
    "reconstruct": "reconstruct photo.png photo.png --model tiny --out made",
    "train": "train geometry --folder run --start nano --steps 6 --batch-size 2 --threads 1",
    "synthesize": "data synthesize 70 made --frames 2 --size 28 --workers 2",
    "convert": "data convert clips run/train made --workers 2",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    tiny_pipeline().save_pretrained(folder / "tiny")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(folder / "photo.png")
    synthesize(folder / "run" / "train", 4, frames=17, size=112)
    return folder


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    command = [sys.executable, "-m", "gen3r.cli.main", *COMMANDS[name].split()]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, start_new_session=True)


def told(process: subprocess.Popen[bytes], amount: int) -> bytes:
    """What the command says in its first bytes of so many."""
    assert process.stderr is not None
    seen = b""
    while len(seen) < amount and (piece := process.stderr.read1(amount - len(seen))):  # pyright: ignore[reportAttributeAccessIssue]
        seen += piece
    return seen


def check_whole(name: str, folder: Path, finished: bool) -> None:
    """Whatever has its final name is whole; a run that was not killed leaves nothing hidden."""
    made = folder / "made"
    for path in [*made.rglob("*.safetensors"), *(folder / "run" / "geometry").rglob("checkpoint*.safetensors")]:
        if not any(part.endswith(".partial") for part in path.parts):
            with safe_open(str(path), framework="np") as file:
                assert all(file.get_tensor(key).size for key in file.keys())
    if name in ("generate", "reconstruct"):
        assert not made.exists() or not [*made.iterdir()] or {p.name for p in made.iterdir()} == set(WRITERS)
    if name == "convert":
        for scene in made.glob("[!.]*"):
            assert len([*(scene / "images").iterdir()]) == len([*(scene / "depth").iterdir()]) == 17
    if finished:
        assert not [p for p in folder.rglob(".*") if p.name != ".gen3r"]


@pytest.mark.nightly
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(name: str, inputs: Path, tmp_path: Path) -> None:
    chance = random.Random(name)
    for path in inputs.iterdir():
        if path.name != "run":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train").symlink_to(inputs / "run" / "train")
    with start(name, tmp_path) as process:
        whole = len(told(process, 1 << 20))
    assert process.returncode == 0
    check_whole(name, tmp_path, finished=True)
    for folder in (tmp_path / "made", tmp_path / "run" / "geometry"):
        if folder.exists():
            folder.rename(tmp_path / f"first {folder.name}")
    for number in SIGNALS:
        with start(name, tmp_path) as process:
            said = told(process, chance.randrange(1, whole))
            os.kill(process.pid, number)
            assert process.stderr is not None
            said += process.stderr.read()  # to the end: no worker has it any more
        code = process.returncode
        assert code in (0, -number, 128 + number), said.decode()
        assert b"Traceback" not in said
        check_whole(name, tmp_path, finished=False)
        if name in ("generate", "reconstruct"):  # it may have been whole before the end
            shutil.rmtree(tmp_path / "made", ignore_errors=True)
    with start(name, tmp_path) as process:
        said = told(process, 1 << 20)
    assert process.returncode == 0, said.decode()
    check_whole(name, tmp_path, finished=True)
