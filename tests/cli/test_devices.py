"""`gen3r generate --devices`: what several processes make of one scene, on the CPU."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gen3r.cli.common import ModelOptions
from gen3r.cli.devices import check_devices
from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.request import Request
from gen3r.scene import Scene
from tests.tiny import tiny_pipeline


def generate(model: Path, out: Path, *arguments: str) -> int:
    return main(["generate", "--model", str(model), "--out", str(out), *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "--devices must be at least 1, not 0"),
        (["--devices", "3"], "196 tokens and 2 heads cannot be split over 3 devices; they can over 2"),
        (["--devices", "2", "--device", "cpu:0"], "2 devices need the name of their kind, such as cpu; not cpu:0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(arguments: list[str], message: str, model: Path, tmp_path: Path, capsys):
    assert generate(model, tmp_path / "out", "--prompt", "a room", "--device", "cpu", *arguments) == 2
    assert capsys.readouterr().err == f"gen3r: error: {message}\n"


def test_devices_share_no_cache_of_steps(model: Path):
    request = replace(Request(prompt="a room").resolve(tiny_pipeline().defaults), fast=True)
    with pytest.raises(InputError, match="leave out --fast or --devices"):
        check_devices(2, ModelOptions(model=str(model), device="cpu"), request)


@pytest.mark.nightly
def test_two_processes_make_the_scene_of_one(model: Path, tmp_path: Path):
    photo = tmp_path / "photo.png"
    Image.radial_gradient("L").resize((160, 120)).save(photo)
    arguments = [str(photo), "--camera", "dolly_in", "--prompt", "a wall", "--guidance", "2", "--device", "cpu"]
    for count in "12":
        assert generate(model, tmp_path / count, *arguments, "--devices", count) == 0
    one, two = (Scene.load(tmp_path / count / "scene.safetensors") for count in "12")
    for name in ("depth", "confidence", "points"):
        assert torch.allclose(getattr(one, name), getattr(two, name), atol=1e-5)
    assert torch.allclose(one.cameras.T_world_camera, two.cameras.T_world_camera, atol=1e-5)
    assert (one.frames.int() - two.frames.int()).abs().max() <= 1
    assert one.settings == two.settings


@pytest.mark.nightly
def test_an_error_of_all_processes_is_one_line(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    save_file({"transformer.nothing.lora_A.weight": torch.ones(1, 1)}, tmp_path / "lora.safetensors")
    arguments = ["--prompt", "a room", "--lora", str(tmp_path / "lora.safetensors"), "--device", "cpu"]
    assert generate(model, tmp_path / "out", *arguments, "--devices", "2") == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "does not fit this transformer" in errors[0] or "holds nothing for this transformer" in errors[0]
    assert not (tmp_path / "out").exists()
