"""The file of a scene: whole, or refused with a line that says what is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gen3r.cameras.camera import Cameras
from gen3r.errors import InputError
from gen3r.geometry.points import unproject
from gen3r.scene import SCENE_FILE, Scene


@pytest.fixture
def file(tmp_path: Path) -> Path:
    size = (2, 8, 6)
    scene = Scene(
        frames=torch.zeros(*size, 3, dtype=torch.uint8), depth=torch.ones(size), confidence=torch.ones(size),
        points=torch.ones(*size, 3), mask=torch.ones(size) > 0,
        cameras=Cameras.from_fov(torch.eye(4).repeat(2, 1, 1), 1.0, 8, 6),
    )  # fmt: skip
    scene.save(tmp_path / "scene.safetensors")
    return tmp_path / "scene.safetensors"


def test_a_file_holds_what_does_not_follow_from_the_rest(file: Path) -> None:
    scene = Scene.load(file)
    assert (scene.points == 1).all()
    assert not scene.source.any()
    source = torch.ones(2, 8, 6, dtype=torch.uint8)
    points = unproject(scene.depth, scene.cameras.T_world_camera, scene.cameras.K_px)
    replace(scene, source=source, points=points, confidence=torch.full((2, 8, 6), 1.1)).save(file)
    with safe_open(str(file), "pt") as opened:
        assert set(opened.keys()) == {"frames", "depth", "confidence", "source", "T_world_camera", "K_px"}
        assert opened.get_tensor("depth").dtype == torch.float16
        assert opened.get_tensor("confidence").dtype == torch.float32
    again = Scene.load(file)
    assert torch.equal(again.points, points)
    assert torch.equal(again.source, source)
    assert torch.equal(again.depth, scene.depth)
    assert torch.equal(again.mask, scene.mask)


@pytest.mark.parametrize("name", ["depth", "T_world_camera"])
def test_a_missing_tensor_is_named(file: Path, name: str) -> None:
    with safe_open(str(file), "pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys() if key != name}
        metadata = opened.metadata()
    save_file(tensors, file, metadata)
    with pytest.raises(InputError, match=f"lacks {name}"):
        Scene.load(file)


@pytest.mark.parametrize("content", [b"", b"half a file", b"\x10" + bytes(7) + b'{"a":'])
def test_a_damaged_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a scene"):
        Scene.load(file)


def test_another_file_is_refused(tmp_path: Path) -> None:
    save_file({"depth": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not a Gen3R scene"):
        Scene.load(tmp_path / "other.safetensors")


def test_a_scene_is_read_from_its_folder(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    with pytest.raises(InputError, match=r"holds no scene\.safetensors"):
        Scene.load(folder)
    file.rename(folder / SCENE_FILE)
    assert torch.equal(Scene.load(folder).depth, Scene.load(folder / SCENE_FILE).depth)
    with pytest.raises(InputError, match="no scene at"):
        Scene.load(tmp_path / "another")
