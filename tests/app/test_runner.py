"""The queue at work: one job at a time, with the real pipeline in a worker."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from gen3r.app.runner import Runner
from gen3r.app.store import JOB, PICTURE, RESULT, Store
from gen3r.cameras.paths import trajectory
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene

from .conftest import LONG, WorkerThread, photo, quick_job

few = pytest.mark.usefixtures("few_files")


def scene_of(store: Store, name: str) -> Scene:
    return Scene.load(store.path(name) / RESULT / "scene.safetensors")


def test_a_job_becomes_the_scene_of_the_command_line(
    store: Store, runner: Runner, pipe: Gen3RPipeline, ended: Callable[[str], str]
) -> None:
    name = store.submit(quick_job(), [photo()])
    runner.start()
    assert ended(name) == "done", store.states()
    assert torch.equal(scene_of(store, name).frames, store.job(name).generate(pipe).frames)
    assert (store.path(name) / PICTURE).stat().st_size > 0
    assert store.states()[name].doing == "writing"


@few
def test_a_job_ends_in_the_middle_of_a_step(store: Store, runner: Runner, ended: Callable[[str], str]) -> None:
    slow, next_one = store.submit(quick_job(num_inference_steps=200), [photo()]), store.submit(quick_job(), [photo()])
    runner.start()
    assert store.wait(lambda: store.states()[slow].doing == "denoising", LONG)
    runner.cancel(slow)
    assert ended(next_one) == "done", store.states()
    assert store.states()[slow].phase == "cancelled"
    assert store.states()[slow].step < 200
    assert not (store.path(slow) / RESULT).exists()


@few
def test_a_running_job_is_deleted(store: Store, runner: Runner, ended: Callable[[str], str]) -> None:
    slow = store.submit(quick_job(num_inference_steps=200), [photo()])
    folder = store.path(slow)
    runner.start()
    assert store.wait(lambda: store.states()[slow].doing == "denoising", LONG)
    runner.delete(slow)
    assert slow not in store.states()
    assert ended(store.submit(quick_job(), [photo()])) == "done"
    assert not folder.exists()


@few
def test_a_worker_without_patience_is_replaced(store: Store, pipe: Gen3RPipeline, ended: Callable[[str], str]) -> None:
    runner = Runner(store, lambda: pipe, WorkerThread, patience=0)
    slow = store.submit(quick_job(num_inference_steps=200), [photo()])
    runner.start()
    assert store.wait(lambda: store.states()[slow].doing == "denoising", LONG)
    runner.cancel(slow)
    assert ended(store.submit(quick_job(), [photo()])) == "done"
    assert store.states()[slow].phase == "cancelled"
    runner.close()


@few
def test_one_failure_is_not_the_next_ones(store: Store, runner: Runner, ended: Callable[[str], str]) -> None:
    bad, good = store.submit(quick_job(), [photo()]), store.submit(quick_job(), [photo()])
    (store.path(bad) / "input-0.png").write_bytes(b"no image")
    runner.start()
    assert ended(bad) == "failed"
    assert store.states()[bad].message.startswith("input-0.png is not an image")
    assert ended(good) == "done"


def test_a_model_that_does_not_load_fails_its_job(store: Store, ended: Callable[[str], str]) -> None:
    def load() -> Gen3RPipeline:
        raise InputError("no such model")

    runner = Runner(store, load, WorkerThread)
    name = store.submit(quick_job(), [photo()])
    runner.start()
    assert ended(name) == "failed"
    assert store.states()[name].message == "no such model"
    runner.close()


@few
def test_the_scene_has_the_cameras_of_its_preview(store: Store, runner: Runner, ended: Callable[[str], str]) -> None:
    job, photos = quick_job(extent=0.3, easing="ease", output_size=None), [photo()]
    runner.start()
    preview = runner.preview(job, photos).result(LONG)
    assert list((store.folder / "previews").iterdir()) == []
    name = store.submit(job, photos)
    assert ended(name) == "done"
    made = scene_of(store, name)
    assert torch.equal(made.cameras.T_world_camera, preview.path.T_world_camera)
    assert torch.equal(made.cameras.K_px, preview.path.K_px)
    assert torch.equal(made.depth[0], preview.scene.depth[0])  # what is seen before is what is drawn


@few
def test_a_drawn_path_is_followed(store: Store, runner: Runner, ended: Callable[[str], str]) -> None:
    photos = [photo(), photo(1)]
    runner.start()
    first = runner.preview(Job(camera="between"), photos).result(LONG)
    drawn = trajectory("orbit_left", 5, first.path.K_px[0], first.path.height, first.path.width, 2.0)
    name = store.submit(quick_job(output_size=None), photos, drawn)
    assert ended(name) == "done"
    made = scene_of(store, name).cameras
    torch.testing.assert_close(made.T_world_camera, drawn.T_world_camera)
    torch.testing.assert_close(made.K_px, drawn.K_px)


def test_a_preview_that_cannot_be(store: Store, runner: Runner) -> None:
    job = Job(camera="free", request=quick_job().request)
    runner.start()
    with pytest.raises(InputError, match="the model chooses the cameras"):
        runner.preview(job, [photo()]).result(LONG)


@few
def test_a_dead_worker_is_replaced(store: Store, runner: Runner, ended: Callable[[str], str]) -> None:
    name = store.submit(quick_job(num_inference_steps=20), [photo()])
    runner.start()
    assert store.wait(lambda: store.states()[name].step > 0, LONG)
    runner._process.kill()
    assert ended(name) == "done"
    assert store.states()[name].deaths == 1


def test_a_server_that_ends_leaves_its_job_to_the_next(store: Store, runner: Runner, pipe: Gen3RPipeline) -> None:
    name = store.submit(quick_job(num_inference_steps=200), [photo()])
    runner.start()
    assert store.wait(lambda: store.states()[name].step > 0, LONG)
    runner.close()
    store.close()
    again = Store(store.folder, pipe.defaults)
    assert again.states()[name].phase == "waiting"
    again.close()


@pytest.mark.nightly
def test_a_killed_process_loses_no_job(store: Store, pipe: Gen3RPipeline, tmp_path: Path, ended) -> None:
    from gen3r.cli.common import ModelOptions, load_pipeline

    pipe.save_pretrained(tmp_path / "tiny")
    runner = Runner(store, partial(load_pipeline, ModelOptions(model=str(tmp_path / "tiny"), device="cpu")))
    name = store.submit(quick_job(num_inference_steps=20), [photo()])
    runner.start()
    assert store.wait(lambda: store.states()[name].step > 0, LONG)
    os.kill(runner._process.pid, signal.SIGKILL)
    assert store.wait(lambda: store.states()[name].deaths, LONG)
    assert ended(name) == "done"
    runner.close()
    assert store.job(name).to_json() == Job.load(store.path(name) / JOB).to_json()
