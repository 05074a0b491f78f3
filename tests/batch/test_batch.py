"""Batches from end to end: what is made is whole, once, and the manifest says what became of every line."""

import json
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
import webdataset
from PIL import Image
from safetensors.torch import save_file

from gen3r.batch.engines import make_here
from gen3r.batch.filters import SCORES, Rule, parse_keep, rejection
from gen3r.batch.outputs import pack, read_record
from gen3r.batch.run import open_batch
from gen3r.batch.scores import depth_consistency
from gen3r.batch.table import Line
from gen3r.batch.tasks import Task, check_lines
from gen3r.batch.worker import Settings, Worker, from_row, to_row
from gen3r.cli.main import main
from gen3r.errors import InputError, out_of_memory
from gen3r.export.save import WRITERS
from gen3r.export.selection import Selection
from gen3r.files import exclusive_folder
from gen3r.geometry.points import unproject
from gen3r.jobs import Job
from gen3r.request import Request
from gen3r.scene import Scene
from tests.depth_models import save_vggt
from tests.export.conftest import make_scene
from tests.tiny import tiny_pipeline

pipeline = cache(tiny_pipeline)
few = pytest.mark.usefixtures("few_files")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, shade in (("a", 40), ("b", 200)):
        Image.linear_gradient("L").resize((64, 48)).point(lambda x, s=shade: (x + s) % 256).save(folder / f"{name}.png")
    return folder


def batch(model: Path, jobs: Path, out: Path, *arguments: str) -> int:
    common = ["--model", str(model), "--device", "cpu", "--workers", "0", "--steps", "1", "--out-size", "0"]
    return main(["batch", str(jobs), str(out), *common, *arguments])


def quick(model: Path, jobs: Path, out: Path, *arguments: str) -> int:
    return batch(model, jobs, out, "--frames", "1", "--guidance", "1", *arguments)


def manifest(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "manifest.parquet")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_photos_becomes_scenes_like_those_of_generate(model: Path, photos: Path, tmp_path: Path, capsys):
    (photos / "c.png").write_text("no picture")
    out = tmp_path / "out"
    assert batch(model, photos, out, "--camera", "dolly_in", "--seed", "3") == 1
    rows = manifest(out)
    assert [*rows.status] == ["done", "done", "invalid"]
    assert [*rows.line] == [1, 2, 3]
    assert "c.png is not an image" in rows.error[2]
    assert "gen3r: line 3: " in capsys.readouterr().err
    assert rows[[*SCORES]].iloc[:2].notna().to_numpy().all()
    assert json.loads(rows.request[0])["camera"] == "dolly_in"
    arguments = ["--camera", "dolly_in", "--seed", "3", "--steps", "1", "--out-size", "0", "--device", "cpu"]
    assert (
        main(["generate", str(photos / "a.png"), *arguments, "--model", str(model), "--out", str(tmp_path / "g")]) == 0
    )
    ours = contents(out / rows.path[0])
    assert json.loads(ours.pop("job.json"))["checksum"] == rows.checksum[0]
    assert ours == contents(tmp_path / "g")
    assert set(ours) == set(WRITERS)
    progress = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    assert [(p["done"], p["left"]) for p in progress] == [(1, 1), (2, 0)]


@few
def test_the_same_command_makes_only_what_is_missing(model: Path, photos: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert quick(model, photos, out) == 0
    before = contents(out / "scenes")
    first = manifest(out)
    shutil.rmtree(out / first.path[0])
    (out / "scenes" / ".dead-0123abcd").mkdir()
    (out / first.path[1] / "depth.mp4").write_bytes(b"damaged")
    assert quick(model, photos, out, "--dry-run") == 0
    assert "1 of 2 scenes are there; 1 would be made" in capsys.readouterr().err
    assert quick(model, photos, out, "--verify") == 0
    assert "0 of 2 scenes are there; making 2" in capsys.readouterr().err
    drop = {name for name in before if name.endswith("job.json")}
    after = contents(out / "scenes")
    assert {n: x for n, x in after.items() if n not in drop} == {n: x for n, x in before.items() if n not in drop}
    assert [*manifest(out).checksum] == [*first.checksum]
    assert quick(model, photos, out, "--seeds", "2") == 0
    assert "2 of 4 scenes are there; making 2" in capsys.readouterr().err
    assert len(manifest(out)) == 4


@few
def test_an_option_that_no_job_can_have_is_refused_once(model: Path, photos: Path, tmp_path: Path, capsys):
    assert quick(model, photos, tmp_path / "out", "--camera", "dolly_inn") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "dolly_inn" in line]
    assert len(errors) == 1
    assert errors[0].startswith("gen3r: error: no camera path named dolly_inn")


@few
def test_adapters_and_geometry_models_make_other_scenes(model: Path, photos: Path, tmp_path: Path, capsys):
    save_vggt(tmp_path / "vggt")
    shape = pipeline().transformer.blocks[0].attn1.to_q.weight.shape
    name = "transformer.blocks.0.attn1.to_q.lora_{}.weight"
    adapters = {name.format("A"): torch.ones(1, shape[1]), name.format("B"): torch.ones(shape[0], 1)}
    save_file(adapters, tmp_path / "lora.safetensors")
    common = ["--camera", "dolly_in", "--guidance", "1"]
    options = [*common, "--lora", str(tmp_path / "lora.safetensors"), "--geometry", str(tmp_path / "vggt")]
    assert batch(model, photos, tmp_path / "out", *common) == 0
    assert batch(model, photos, tmp_path / "out", *options) == 0
    assert "0 of 2 scenes are there; making 2" in capsys.readouterr().err
    rows = manifest(tmp_path / "out").set_index("line")
    assert [len(rows), rows.model.nunique(), rows.checksum.nunique()] == [4, 2, 4]
    options += ["--model", str(model), "--steps", "1", "--out-size", "0", "--device", "cpu"]
    assert main(["generate", str(photos / "a.png"), *options, "--out", str(tmp_path / "g")]) == 0
    ours = contents(tmp_path / "out" / rows.path[1])
    del ours["job.json"]
    assert ours == contents(tmp_path / "g")
    save_file({key: 2 * tensor for key, tensor in adapters.items()}, tmp_path / "lora.safetensors")
    assert batch(model, photos, tmp_path / "out", *options) == 0
    assert len(manifest(tmp_path / "out")) == 6
    assert batch(model, photos, tmp_path / "out", "--lora", str(tmp_path / "none")) == 2
    assert "no LoRA at" in capsys.readouterr().err


@few
def test_rejected_scenes_are_kept_apart_and_come_back(model: Path, photos: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert quick(model, photos, out, "--keep", "sharp<0") == 0
    rows = manifest(out)
    assert [*rows.status] == ["rejected"] * 2
    assert rows.error[0] == f"sharp {rows.sharp[0]:.4g} is not < 0"
    assert all(path.startswith("rejected/") for path in rows.path)
    assert quick(model, photos, out, "--keep", "sharp>=0") == 0
    assert [*manifest(out).status] == ["done"] * 2
    assert len([*(out / "scenes").iterdir()]) == 2
    assert not any((out / "rejected").iterdir())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(model: Path, photos: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ("--camera", "dolly_in", "--prompt", "a wall · стена", "--seeds", "2", "--format", "webdataset")
    assert batch(model, photos, out, *arguments, "--shard", "3") == 0
    assert sorted(p.name for p in (out / "shards").iterdir()) == ["000000.tar", "000001.tar"]
    assert not any((out / "scenes").iterdir())
    rows = manifest(out).set_index("id")
    urls = [str(p) for p in sorted((out / "shards").iterdir())]
    samples = {s["__key__"]: s for s in webdataset.WebDataset(urls, shardshuffle=False).decode("torchrgb")}  # pyright: ignore
    assert set(samples) == set(rows.index)
    for key, sample in samples.items():
        geometry = sample["geometry.npz"]
        assert sample["txt"] == "a wall · стена"
        assert sample["job.json"]["checksum"] == rows.checksum[key]
        assert geometry["depth"].shape == (5, *sample["00000.png"].shape[1:])
        assert geometry["T_world_camera"].shape == (5, 4, 4)
        assert geometry["K_px"].shape == (5, 3, 3)
        assert {"00004.png", "metadata.json"} <= set(sample)
    assert batch(model, photos, out, *arguments, "--verify") == 0
    assert manifest(out).set_index("id").equals(rows)


def test_a_packing_that_was_cut_off_leaves_nothing_twice(tmp_path: Path):
    out = tmp_path / "out"
    settings = Settings(load=pipeline, out=out, model="m", formats=("webdataset",))
    tasks = tasks_of(1)
    with open_batch(settings, tasks) as work:
        work.run(tasks, lambda groups: make_here(groups, settings))
        [record] = work.records.values()
    shutil.copytree(out / record.path, tmp_path / "copy")
    pack(out, [record])
    shutil.copytree(tmp_path / "copy", out / record.path)
    with open_batch(settings, tasks) as work:
        assert not work.missing(tasks)
        assert work.records[record.id].path == "shards/000000.tar"
    assert not (out / record.path).exists()


def tasks_of(count: int, size: int = 112) -> list[Task]:
    options = {"num_inference_steps": 1, "num_frames": 1, "guidance_scale": 1.0}
    jobs = [Job(seed=i, size=(size, size), request=Request(prompt=f"room {i}", **options)) for i in range(count)]
    tasks, bad = check_lines([Line(i + 1, job) for i, job in enumerate(jobs)], pipeline().defaults, "m", batched=True)
    assert not bad
    return tasks


def failing(fails: Callable[[int], Exception | None]) -> Callable[[], Any]:
    """Loads a pipeline whose calls fail as it is told, by the number of samples."""

    def load() -> Any:
        pipe = tiny_pipeline()
        denoise = pipe.denoise

        def wrapped(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
            error = fails(len(latents))
            if error is not None:
                raise error
            return denoise(latents, *rest)

        pipe.denoise = wrapped
        return pipe

    return load


@few
def test_without_memory_a_batch_is_halved_for_good(tmp_path: Path):
    sizes = []

    def fails(count: int) -> Exception | None:
        sizes.append(count)
        torch.empty(1 << (60 if count > 2 else 6), dtype=torch.uint8)  # more than any machine has

    worker = Worker(Settings(load=failing(fails), out=tmp_path, model="m"))
    tasks = tasks_of(6)
    assert [r.status for r in worker.make(tasks[:4])] == ["done"] * 4
    assert [r.status for r in worker.make(tasks[4:] + tasks[:1])] == ["done"] * 3
    assert sizes == [4, 2, 2, 2]


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:this model was trained on clips")
def test_a_batch_that_the_system_has_no_memory_for_is_halved(tmp_path: Path):
    """A clip of 336 x 336 takes 100 MB, six take 310 MB, and 220 MB are left."""
    worker = Worker(Settings(load=pipeline, out=tmp_path, model="m"))
    tasks = tasks_of(7, size=336)
    assert [r.status for r in worker.make(tasks[:1])] == ["done"]
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 220_000_000, before[1]))
    try:
        records = worker.make(tasks[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert [(r.status, r.error) for r in records] == [("done", "")] * 6
    assert worker.most in (1, 3)


def test_what_is_a_lack_of_memory():
    texts = "DefaultCPUAllocator: can't allocate memory: you tried", "could not create a primitive"
    assert all(out_of_memory(error) for error in (MemoryError(), *map(RuntimeError, texts)))
    assert not out_of_memory(RuntimeError("size mismatch"))
    assert not out_of_memory(InputError("could not create a primitive"))


@few
def test_a_batch_makes_the_scenes_of_its_jobs(tmp_path: Path):
    tasks, kinds = tasks_of(2), {}
    for name, groups in (("alone", [[t] for t in tasks]), ("together", [tasks])):
        records = [*make_here(groups, Settings(load=pipeline, out=tmp_path / name, model="m"))]
        kinds[name] = [Scene.load(tmp_path / name / r.path / "scene.safetensors") for r in records]
    for alone, together in zip(*kinds.values(), strict=True):
        assert alone.settings == together.settings
        assert alone.prompt == together.prompt
        assert (alone.frames.int() - together.frames.int()).abs().max() <= 1


@few
def test_a_failure_is_a_row_and_is_tried_again(tmp_path: Path):
    tries = []

    def fails(count: int) -> Exception | None:
        tries.append(count)
        return RuntimeError("the\nnetwork") if len(tries) in (1, 3, 4) else None

    tasks = tasks_of(3)
    settings = Settings(load=failing(fails), out=tmp_path / "out", model="m")
    with open_batch(settings, tasks) as work:
        work.run(tasks, lambda groups: make_here(groups, settings), attempts=2)
    rows = manifest(tmp_path / "out")
    assert [*rows.status] == ["done", "done", "failed"] if rows.status[2] == "failed" else ["failed", "done", "done"]
    [error] = rows.error[rows.status == "failed"]
    assert error == "RuntimeError: the network"
    assert len(tries) == 5


@few
def test_a_full_disk_stops_the_batch_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tasks, settings = tasks_of(3), Settings(load=pipeline, out=tmp_path / "out", model="m")
    save, calls = Scene.save, []

    def full(chosen: Selection, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(chosen.scene, path)

    monkeypatch.setitem(WRITERS, "scene.safetensors", full)
    with open_batch(settings, tasks) as work, pytest.raises(InputError, match="No space left"):
        work.run(tasks, lambda groups: make_here(groups, settings))
    assert [*manifest(tmp_path / "out").status] == ["done"]
    with open_batch(settings, tasks) as work:
        assert len(work.missing(tasks)) == 2
        work.run(tasks, lambda groups: make_here(groups, settings))
    assert [*manifest(tmp_path / "out").status] == ["done"] * 3


def test_only_one_batch_works_in_a_folder(model: Path, photos: Path, tmp_path: Path, capsys):
    with exclusive_folder(tmp_path / "out"):
        assert batch(model, photos, tmp_path / "out") == 2
    assert "another process is writing in" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    assert batch(model, photos, tmp_path / "other") == 2
    assert "letter.txt, which is no part of a batch" in capsys.readouterr().err


def test_a_folder_has_one_format(tmp_path: Path):
    tasks, settings = (
        tasks_of(1),
        Settings(load=pipeline, out=tmp_path / "out", model="m", formats=("tum", "rgbd")),
    )
    with open_batch(settings, tasks) as work:
        work.run(tasks, lambda groups: make_here(groups, settings))
        [record] = work.records.values()
    assert {p.name for p in (tmp_path / "out" / record.path).iterdir()} == {
        "trajectory.tum", "rgbd", "metadata.json", "job.json",
    }  # fmt: skip
    other = Settings(load=pipeline, out=tmp_path / "out", model="m")
    with pytest.raises(InputError, match="holds scenes as tum rgbd"), open_batch(other, tasks):
        pass


def test_a_damaged_record_is_named(tmp_path: Path):
    (tmp_path / "scenes" / "0123").mkdir(parents=True)
    (tmp_path / "scenes" / "0123" / "job.json").write_text("{")
    with pytest.raises(InputError, match="0123 has no readable job"):
        read_record(tmp_path / "scenes" / "0123")


@pytest.mark.parametrize("text", ["", "sharp", "sharp>", "size>3", "sharp=3", "sharp>x", "sharp>1,,holes<1"])
def test_limits_that_are_none_are_refused(text: str):
    with pytest.raises(InputError, match="--keep takes limits"):
        parse_keep(text)


def test_limits_reject_what_breaks_them():
    rules = parse_keep("sharp>0.01, floaters<=.05,follow>0.5")
    assert rules == (Rule("sharp", ">", 0.01), Rule("floaters", "<=", 0.05), Rule("follow", ">", 0.5))
    assert rejection(rules, {"sharp": 0.02, "floaters": 0.05, "follow": None}) == ""
    assert rejection(rules, {"sharp": 0.01, "floaters": 0.2, "follow": 0.6}) == (
        "sharp 0.01 is not > 0.01; floaters 0.2 is not <= 0.05"
    )


def test_points_that_other_views_look_through_are_floaters():
    scene = make_scene()
    depth = torch.full_like(scene.depth, 2.0)
    flat = scene_of(scene, depth)
    everything = torch.ones_like(scene.mask)
    agree, floaters = depth_consistency(flat, everything)
    assert (agree, floaters) == (1.0, 0.0)
    depth = depth.clone()
    depth[2, 10:14, 10:20] = 1.0  # near, in one frame alone
    agree, floaters = depth_consistency(scene_of(scene, depth), everything)
    share = 40 / depth.numel()
    assert floaters == pytest.approx(share, rel=0.2)
    assert agree == pytest.approx(1 - share, rel=0.01)


def scene_of(scene: Scene, depth: torch.Tensor) -> Scene:
    points = unproject(depth, scene.cameras.T_world_camera, scene.cameras.K_px)
    return replace(scene, depth=depth, points=points, mask=torch.ones_like(scene.mask))


@few
def test_a_worker_takes_and_gives_rows_of_text(tmp_path: Path):
    tasks = tasks_of(2)
    worker = Worker(Settings(load=pipeline, out=tmp_path, model="m"))
    rows = worker(to_row(tasks))
    records = [from_row(row) for row in rows]
    assert [(r.id, r.line, r.status) for r in records] == [(t.id, t.line, "done") for t in tasks]
    assert [from_row(row) for row in worker(to_row(tasks))] == [read_record(tmp_path / r.path) for r in records]
