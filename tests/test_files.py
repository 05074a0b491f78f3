"""Files and folders are there whole or not at all, whatever stops the writer."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gen3r.data.records import Clip
from gen3r.data.shards import write_shard
from gen3r.errors import InputError
from gen3r.export.save import save_scene
from gen3r.files import (
    check_file,
    check_folder,
    exchange_folders,
    exclusive_folder,
    file_hash,
    remove_partial,
    reserved_folder,
    whole_file,
    whole_folder,
    write_tensors,
    write_text,
)
from gen3r.scene import Scene
from tests.export.conftest import make_scene


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder of two files and a file in a folder."""
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_text(f"old {name}")
    return folder


def fail_midway(target: AbstractContextManager[Path], name: str = "") -> None:
    with target as partial:
        (partial / name).write_text("half")
        raise KeyError


def test_a_writer_that_fails_midway_leaves_the_old_folder(old: Path) -> None:
    before = contents(old)
    with pytest.raises(KeyError):
        fail_midway(whole_folder(old, overwrite=True), "a")
    assert contents(old) == before
    assert [p.name for p in old.parent.iterdir()] == ["out"]


def test_new_files_replace_the_old_and_others_are_kept(old: Path) -> None:
    old.chmod(0o750)
    with whole_folder(old, overwrite=True) as partial:
        (partial / "a").write_text("new a")
        (partial / "new").mkdir()
        (partial / "new" / "d").write_text("new d")
    assert contents(old) == {"a": b"new a", "b": b"old b", "sub/c": b"old sub/c", "new/d": b"new d"}
    assert old.stat().st_mode & 0o777 == 0o750
    assert [p.name for p in old.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("inside", [True, False])
def test_a_folder_in_which_one_works_gets_the_files_one_by_one(
    old: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old if inside else old.parent)
    with whole_folder("." if inside else "out", overwrite=True) as partial:
        (partial / "a").write_text("new a")
    assert contents(old) == {"a": b"new a", "b": b"old b", "sub/c": b"old sub/c"}
    assert Path.cwd().exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_in_a_folder_that_cannot_be_written_to(old: Path) -> None:
    old.parent.chmod(0o500)
    try:
        with whole_folder(old, overwrite=True) as partial:
            (partial / "a").write_text("new a")
    finally:
        old.parent.chmod(0o700)
    assert contents(old) == {"a": b"new a", "b": b"old b", "sub/c": b"old sub/c"}


def test_a_link_to_a_folder_stays_a_link(old: Path) -> None:
    link = old.parent / "link"
    link.symlink_to(old)
    with whole_folder(link, overwrite=True) as partial:
        (partial / "a").write_text("new a")
    assert link.is_symlink()
    assert (old / "a").read_text() == "new a"


def test_an_exchange_that_fails_midway_puts_the_old_folder_back(old: Path) -> None:
    before = contents(old)
    with pytest.raises(FileNotFoundError):
        exchange_folders(old, old.parent / "nothing")  # the first rename succeeds, the second does not
    assert contents(old) == before
    assert [p.name for p in old.parent.iterdir()] == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from gen3r import files

def overwrite(folder, version):
    with files.whole_folder(folder, overwrite=True) as partial:
        for name in "abc":
            (partial / name).write_text(version)

def die_after(lines):
    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename != files.__file__:
            return None
        lines -= event == "line"
        if lines < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

folder, lines, killed = Path(sys.argv[1]), 0, True
while killed:
    overwrite(folder, "old")
    child = os.fork()
    if child == 0:
        die_after(lines)
        overwrite(folder, "new")
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    found = {(folder / name).read_text() for name in "abc"}
    print(lines, *found, (folder / "mine").read_text())
    lines += 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders at once")
def test_a_process_killed_at_any_line_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("kept")
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    states = [line.split()[1:] for line in done.stdout.splitlines()]
    assert len(states) > 40
    assert {tuple(state) for state in states} == {("old", "kept"), ("new", "kept")}
    assert states[0][0] == "old"
    assert states[-1][0] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file may become larger than `most` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_shard(scene: Scene, path: Path) -> None:
    write_shard(path, [Clip(scene.frames, scene.depth, scene.cameras, "a wall")], "")


@pytest.mark.parametrize(
    "write",
    [
        lambda scene, path: scene.save(path),
        save_scene,
        lambda scene, path: write_tensors({"depth": scene.depth}, path),
        lambda scene, path: write_text("x" * 30_000, path),
        save_shard,
    ],
    ids=["Scene.save", "save_scene", "write_tensors", "write_text", "clip shard"],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(write: Callable[[Scene, Path], None], tmp_path: Path) -> None:
    with (
        full_disk(4000),
        pytest.raises(InputError, match=r"^cannot write .*out.*: File too large; choose .*") as e,
    ):
        write(make_scene(), tmp_path / "out")
    assert "\n" not in str(e.value)
    assert "/.out" not in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_files_have_the_permissions_that_the_person_wants(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text("note", tmp_path / "note.txt")
        write_tensors({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
        with whole_folder(tmp_path / "out") as partial:
            save_file({"x": torch.zeros(1)}, partial / "weights.safetensors")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    metadata = {"format": "x", "about": '"é\x01 \\ \u2028"', "more": ""}
    tensors = {"b": torch.ones(3), "A": torch.zeros(2, dtype=torch.uint8)}
    for i in range(9):
        write_tensors(tensors, tmp_path / f"{i}.safetensors", metadata)
    assert len({file_hash(path) for path in tmp_path.iterdir()}) == 1
    with safe_open(str(tmp_path / "0.safetensors"), "pt") as file:
        assert file.metadata() == metadata
        assert torch.equal(file.get_tensor("b"), tensors["b"])
        assert torch.equal(file.get_tensor("A"), tensors["A"])


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    (tmp_path / ".scene-0.partial").mkdir()
    (tmp_path / ".kept").touch()
    with whole_folder(tmp_path / "other") as partial:
        remove_partial(tmp_path)
        assert partial.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".kept", "other"]


def test_an_error_of_the_writer_itself_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        fail_midway(whole_file(tmp_path / "a.txt"))
    assert not list(tmp_path.iterdir())


@contextmanager
def living(block: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that enters a context manager of gen3r.files, says so, and waits there."""
    code = f"import sys; from gen3r.files import *\nwith {block}:\n    print('in', flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_two_processes_do_not_share_an_output(tmp_path: Path) -> None:
    with living("reserved_folder(sys.argv[1]), exclusive_folder(sys.argv[2])", tmp_path / "out", tmp_path / "clips"):
        with pytest.raises(InputError, match=r"another process is writing .*out; wait for it"):
            check_folder(tmp_path / "out")
        with pytest.raises(InputError, match=r"another process is writing in .*clips; wait for it"):
            fail_midway(exclusive_folder(tmp_path / "clips"))
    check_folder(tmp_path / "out")
    with exclusive_folder(tmp_path / "clips"):
        write_text("x", tmp_path / "clips" / "a.txt")


def test_what_a_killed_process_leaves_is_removed_by_the_next(old: Path) -> None:
    folder = "sys.argv[1], overwrite=True"
    with living(f"reserved_folder({folder}), whole_folder({folder}), whole_file(sys.argv[1] + '/b')", old):
        pass
    assert len([*old.parent.rglob("*.partial")]) == 3
    with reserved_folder(old, overwrite=True), whole_folder(old, overwrite=True) as partial:
        (partial / "a").write_text("new a")
    write_text("new b", old / "b")
    assert contents(old) == {"a": b"new a", "b": b"new b", "sub/c": b"old sub/c"}
    assert [p.name for p in old.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("letters", [255, 256])
def test_a_name_too_long_is_refused_at_the_start_and_one_as_long_as_can_be_works(letters: int, tmp_path: Path) -> None:
    for name in ("x" * letters, "ä" * (letters // 2) + "x" * (letters % 2)):
        if letters > 255:
            with pytest.raises(InputError, match="File name too long; choose another folder"):
                check_folder(tmp_path / name)
            with pytest.raises(InputError, match="File name too long"):
                write_text("x", tmp_path / name)
            continue
        with reserved_folder(tmp_path / name), whole_folder(tmp_path / name) as partial:
            (partial / "a").write_text("x")
        write_text("x", tmp_path / name / name)
        assert contents(tmp_path / name) == {"a": b"x", name: b"x"}
    assert len([*tmp_path.iterdir()]) == (0 if letters > 255 else 2)


def test_a_trial_leaves_nothing_and_refuses_what_is_no_folder(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deeper" / "out")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "loop").symlink_to("loop")
    for folder, why in (
        (tmp_path / "loop", "loop"),
        (Path("/dev/null"), "is a file"),
        (Path("/proc/out"), "/proc"),
    ):
        with pytest.raises(InputError, match=why):
            check_folder(folder)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second disk")
@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_to_another_disk(dangling: bool, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        disk = Path(other) / "disk" if dangling else Path(other)
        (tmp_path / "out").symlink_to(disk)
        with reserved_folder(tmp_path / "out"), whole_folder(tmp_path / "out") as partial:
            (partial / "a").write_text("x")
        (tmp_path / "note").symlink_to(disk / "note")
        write_text("y", tmp_path / "note")
        assert contents(disk) == {"a": b"x", "note": b"y"}
        assert (tmp_path / "note").is_symlink()
        assert [*disk.parent.glob(".*")] == []


def test_names_that_are_not_text_and_devices(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    with reserved_folder(tmp_path / name), whole_folder(tmp_path / name) as partial:
        write_text(json.dumps([name], ensure_ascii=False), partial / name)
    assert json.loads((tmp_path / name / name).read_text()) == [name]
    write_text("nothing", "/dev/null")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(InputError, match="is a folder; choose a file"):
        write_text("x", tmp_path)


def test_a_trial_leaves_nothing(tmp_path: Path):
    check_file(tmp_path / "new" / "report.json")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "old.json").write_text("old")
    check_file(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "old"
    with pytest.raises(InputError, match="is a folder"):
        check_file(tmp_path)


def test_names_of_any_bytes_in_a_terminal_without_them(tmp_path: Path):
    """A name of two bytes a letter, longer than names of hidden folders can be, where the console knows ASCII alone."""
    name = "ö" * 120
    code = "import sys; from gen3r.files import write_text; write_text('whole', sys.argv[1])"
    ascii_alone = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, name], cwd=tmp_path, env=ascii_alone, check=True)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    write_text("again", tmp_path / name)
    assert (tmp_path / name).read_text() == "again"
