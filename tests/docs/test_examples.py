"""Every example runs, with small settings from its own command line; some in the nightly tests alone."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NIGHTLY = {
    "01_two_photos",
    "02_own_camera_path",
    "03_reconstruct_video",
    "04_checkpoints_and_latents",
    "07_use_elsewhere",
    "08_many_scenes",
}  # they differ little from what the pages run, or take long
ARGUMENTS = {
    "00_photo_to_scene": ([], "outputs/00/preview.png"),
    "01_two_photos": ([], "outputs/01/preview.png"),
    "02_own_camera_path": ([], "outputs/02/preview.png"),
    "03_reconstruct_video": ([], "outputs/03/preview.png"),
    "04_checkpoints_and_latents": ([], "outputs/04/scene/preview.png"),
    "05_world_sheet": (["--clips", "2", "--size", "56"], "world.png"),
    "06_change_one_word": (["--colours", "1"], "outputs/06.png"),
    "07_use_elsewhere": ([], "outputs/07/mesh.glb"),
    "08_many_scenes": (["outputs/08", "1"], "outputs/08/scenes/manifest.parquet"),
}


def test_all_examples_are_run():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name not in NIGHTLY])
@pytest.mark.usefixtures("tiny_nano")
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_example(name, tmp_path, monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_example_runs_with_nano(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_example(name, tmp_path, monkeypatch)


def run_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, written = ARGUMENTS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert (tmp_path / written).stat().st_size > 0
