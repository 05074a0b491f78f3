"""The folder that a generation leaves: every file there and readable, or nothing."""

import json
import os
import resource
from pathlib import Path

import pytest
import torch
from PIL import Image

from gen3r.cameras.formats import read_cameras
from gen3r.errors import InputError
from gen3r.export.save import WRITERS, save_scene
from gen3r.files import check_folder
from gen3r.media.drawing import WIDTH
from gen3r.scene import Scene


def test_writes_every_file_and_nothing_else(scene: Scene, tmp_path: Path):
    paths = save_scene(scene, tmp_path / "new" / "out")
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(WRITERS)
    assert [p.name for p in paths] == list(WRITERS)
    assert all(p.stat().st_size > 0 for p in paths)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def test_scene_and_cameras_read_back(scene: Scene, tmp_path: Path):
    save_scene(scene, tmp_path / "out")
    again = Scene.load(tmp_path / "out" / "scene.safetensors")
    for name in ("frames", "depth", "confidence", "points", "mask"):
        assert torch.equal(getattr(again, name), getattr(scene, name))
    assert (again.prompt, again.settings) == (scene.prompt, scene.settings)
    cameras = read_cameras(tmp_path / "out" / "cameras.json")
    torch.testing.assert_close(cameras.T_world_camera, scene.cameras.T_world_camera, rtol=0, atol=0)
    torch.testing.assert_close(cameras.K_px, scene.cameras.K_px, rtol=0, atol=0)


def test_metadata_says_what_it_is(scene: Scene, tmp_path: Path):
    save_scene(scene, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "metadata.json").read_text(encoding="utf-8"))
    assert about["prompt"] == scene.prompt
    assert about["settings"] == scene.settings
    assert (about["frames"], about["height"], about["width"]) == (5, 32, 48)
    assert about["points"] == int(scene.mask.sum())
    near, far = about["depth_range"]
    assert 0.5 <= near < far <= 2


def test_a_full_disk_leaves_what_was_there(scene: Scene, tmp_path: Path):
    out = tmp_path / "out"
    save_scene(scene, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*out: .*choose another folder") as caught:
            save_scene(scene, out, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert "/.out" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_something_in_it_needs_overwrite(scene: Scene, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        save_scene(scene, tmp_path)
    save_scene(scene, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.width == WIDTH


def test_a_file_in_the_way(scene: Scene, tmp_path: Path):
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        with pytest.raises(InputError, match="is a file"):
            save_scene(scene, folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot write .*; choose another folder"):
        check_folder(tmp_path / "out")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that takes no new folder")
def test_a_place_that_takes_no_folder(scene: Scene):
    with pytest.raises(InputError, match="choose another folder"):
        save_scene(scene, Path("/proc/gen3r"))
