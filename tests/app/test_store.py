"""The store: what is on disk is the truth, whatever happened to the server."""

import json
import os
from pathlib import Path

import pytest
import torch

from gen3r.app import store as stores
from gen3r.app.store import JOB, RESULT, STATE, State, Store, write_job
from gen3r.cameras.paths import trajectory
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.request import Request

from .conftest import photo, quick_job


def reopened(store: Store) -> Store:
    store.close()
    return Store(store.folder, store.defaults)


def phases(store: Store) -> list[str]:
    return [state.phase for state in store.states().values()]


def test_a_job_is_a_folder_that_the_command_line_reads(store: Store) -> None:
    job = quick_job(prompt="a room", extent=0.2)
    name = store.submit(job, [photo()])
    path = store.path(name)
    assert sorted(p.name for p in path.iterdir()) == ["input-0.png", JOB]
    saved = Job.load(path / JOB)
    assert saved.inputs == (path / "input-0.png",)
    assert saved.to_json() | {"inputs": []} == job.to_json() | {"inputs": []}


def test_jobs_are_taken_in_turn_and_end_as_they_should(store: Store) -> None:
    first, second, third = (store.submit(quick_job(), [photo(i)]) for i in range(3))
    assert store.take() == first
    store.progress(first, 1, 2, "denoising")
    assert store.states()[first] == State("running", "denoising", 1, 2)
    (store.path(first) / RESULT).mkdir()
    store.finish(first)
    store.cancel(second)
    assert store.take() == third
    store.finish(third, "no luck")
    assert phases(store) == ["done", "cancelled", "failed"]
    assert store.states()[third].message == "no luck"
    assert store.take() is None


def test_a_restart_loses_nothing_and_repeats_nothing(store: Store) -> None:
    names = [store.submit(quick_job(), [photo(i)]) for i in range(5)]
    for name in names[:4]:
        assert store.take() == name
        if name in names[:2]:
            (store.path(name) / RESULT).mkdir()
        if name == names[0]:
            store.finish(name)
        if name == names[2]:
            store.cancel(name)
    (store.path(names[3]) / STATE).write_text("{")  # as a disk may leave it
    store = reopened(store)
    assert list(store.states()) == names
    assert phases(store) == ["done", "done", "cancelled", "waiting", "waiting"]
    assert store.take() == names[3]


def test_what_a_crash_left_goes(store: Store) -> None:
    name = store.submit(quick_job(), [photo()])
    store.take()
    store.delete(name)  # its worker is on it
    assert store.states() == {}
    half = store.folder / "jobs" / ".000002-00000000-aaaaaaaa"
    half.mkdir()
    (store.folder / "jobs" / "notes.txt").touch()
    store = reopened(store)
    assert list((store.folder / "jobs").iterdir()) == []


def test_a_dead_worker_gets_one_more_try(store: Store) -> None:
    name = store.submit(quick_job(), [photo()])
    for phase in ("waiting", "failed"):
        assert store.take() == name
        store.died(name)
        assert store.states()[name].phase == phase
    assert "memory" in store.states()[name].message


def test_the_queue_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "MAX_WAITING", 2)
    for _ in range(2):
        store.submit(quick_job(prompt="a room"))
    with pytest.raises(InputError, match="2 scenes are waiting"):
        store.submit(quick_job(prompt="a room"))
    store.cancel(next(iter(store.states())))
    store.submit(quick_job(prompt="a room"))


def test_a_folder_serves_one_server(store: Store) -> None:
    with pytest.raises(InputError, match="another gen3r app works in"):
        Store(store.folder, store.defaults)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used"):
        Store(tmp_path / "file", {})


@pytest.mark.parametrize("name", ["", ".", "..", "../jobs", "/etc", "000001-00000000", "x\0y", "000001-5f3a9c01/scene"])
def test_names_are_looked_up(store: Store, name: str) -> None:
    store.submit(quick_job(prompt="a room"))
    for ask in (store.path, store.job, store.cancel, store.delete):
        with pytest.raises(InputError, match="deleted"):
            ask(name)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(), "nothing to start from"),
        (Job(camera="/etc/passwd", request=Request(prompt="x")), "path of the list"),
        (Job(camera="../../cameras.json", request=Request(prompt="x")), "path of the list"),
        (Job(inputs=(Path("/etc/passwd"),)), "path of the list"),
        (Job(request=Request(prompt="x" * 3000)), "2000 characters"),
        (Job(request=Request(prompt="x", num_frames=10**9 + 1)), "121 frames"),
        (Job(request=Request(prompt="x", num_inference_steps=10**6)), "200 steps"),
        (Job(request=Request(prompt="x", output_size=10**6)), "2048 pixels"),
        (Job(request=Request(prompt="x"), size=(11200, 112)), "1120 pixels"),
        (Job(request=Request(prompt="x", num_frames=6)), "4k . 1 frames"),
        (Job(request=Request(prompt="x"), seed=-1), "a seed is"),
        (Job(request=Request(prompt="\ud800")), "valid text"),
        (Job(request=Request(prompt="x", guidance_scale=float("nan"))), "guidance"),
    ],
)
def test_a_job_that_cannot_be_done_leaves_nothing(store: Store, job: Job, message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.submit(job)
    assert store.states() == {}
    assert os.listdir(store.folder / "jobs") == []


def test_a_drawn_path_lies_beside_the_job(store: Store, tmp_path: Path) -> None:
    K = torch.tensor([[100.0, 0, 56], [0, 100, 56], [0, 0, 1]])
    drawn = trajectory("dolly_in", 5, K, 112, 112)
    write_job(tmp_path / "job", store.defaults, Job(), [photo()], drawn)
    assert json.loads((tmp_path / "job" / JOB).read_text())["camera"] == "cameras.json"
    cameras = Job.load(tmp_path / "job" / JOB).resolve(store.defaults).cameras
    torch.testing.assert_close(cameras.T_world_camera, drawn.T_world_camera)
