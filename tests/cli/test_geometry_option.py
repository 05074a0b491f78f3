"""`--geometry` of `gen3r generate` and `gen3r reconstruct`, with tiny models in the layouts of the real ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gen3r.cli.main import main
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from tests.depth_models import save_depth_model, save_vggt
from tests.tiny import tiny_pipeline

few = pytest.mark.usefixtures("few_files")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, two photos, and a model of each kind."""
    root = tmp_path_factory.mktemp("geometry")
    tiny_pipeline().save_pretrained(root / "tiny")
    for name, seed in (("photo.png", 0), ("other.png", 1)):
        small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(root / name)
    save_vggt(root / "vggt")
    for name in ("depth anything", "metric depth anything", "depth pro"):
        save_depth_model(name, root / name)
    return root


PATH = ("--camera", "truck_left", "--steps", "1", "--guidance", "1")


def run(command: str, place: Path, out: Path, *arguments: str | Path) -> int:
    model = ["--model", str(place / "tiny"), "--device", "cpu", "--out", str(out)]
    return main([command, *map(str, arguments), *model])


def scene(out: Path) -> Scene:
    return Scene.load(out / "scene.safetensors")


@pytest.fixture(scope="module")
def own(place: Path) -> Scene:
    """What the pipeline makes by itself."""
    assert run("generate", place, place / "own", place / "photo.png", *PATH) == 0
    return scene(place / "own")


@pytest.mark.parametrize("name", ["vggt", "depth anything", "metric depth anything", "depth pro"])
@few
def test_generate_takes_its_path_from_the_model(name: str, own: Scene, place: Path, tmp_path: Path):
    assert run("generate", place, tmp_path / "out", place / "photo.png", *PATH, "--geometry", place / name) == 0
    made = scene(tmp_path / "out")
    assert made.settings["geometry"] == str(place / name)
    assert ("metres_per_unit" in made.settings) == (name in ("metric depth anything", "depth pro"))
    assert made.frames.shape == own.frames.shape
    assert not torch.equal(made.depth, own.depth)
    same_lens = torch.allclose(made.cameras.K_px, own.cameras.K_px)
    assert same_lens == (name in ("depth anything", "metric depth anything"))


@pytest.mark.parametrize("name", ["vggt", "depth anything", "metric depth anything"])
@few
def test_reconstruct_sees_images_in_their_own_shape(name: str, place: Path, tmp_path: Path):
    inputs = place / "photo.png", place / "other.png"
    options = "--feed-forward", "--geometry", place / name
    assert run("reconstruct", place, tmp_path / "out", *inputs, *options) == 0
    made = scene(tmp_path / "out")
    assert made.depth.shape == (2, 126, 154)
    pipe = Gen3RPipeline.from_pretrained(place / "tiny")
    pipe.load_geometry(place / name)
    again = pipe.reconstruct([Image.open(path) for path in inputs], feed_forward=True)
    assert torch.equal(again.depth, made.depth)
    assert again.settings.get("metres_per_unit") == made.settings.get("metres_per_unit")
    larger = pipe.reconstruct([Image.open(inputs[0])], height=560, width=560)
    assert larger.depth.shape == (1, 560, 560)


def empty(folder: Path, place: Path) -> str:
    folder.mkdir()
    return str(folder)


def pipeline_folder(folder: Path, place: Path) -> str:
    return str(place / "tiny")


def pickled(folder: Path, place: Path) -> str:
    folder.mkdir()
    (folder / "config.json").write_text((place / "depth anything" / "config.json").read_text())
    torch.save({}, folder / "pytorch_model.bin")
    return str(folder)


def other_model(folder: Path, place: Path) -> str:
    save_depth_model("depth anything", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    return str(folder)


def incomplete(folder: Path, place: Path) -> str:
    save_depth_model("depth anything", folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.conv3.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def damaged(folder: Path, place: Path) -> str:
    save_vggt(folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return str(folder)


def incomplete_vggt(folder: Path, place: Path) -> str:
    save_vggt(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["camera_head.token_norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def nowhere(folder: Path, place: Path) -> str:
    return str(folder)


@pytest.mark.parametrize("command", ["generate", "reconstruct"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nowhere, "no model at"), (empty, "no geometry model"), (pipeline_folder, "no geometry model"),
        (pickled, "no geometry model"), (other_model, "bert"), (incomplete, "lacks the tensor head.conv3.weight"),
        (damaged, "damaged"), (incomplete_vggt, "lacks the tensor camera_head.token_norm.weight"),
    ],
)  # fmt: skip
def test_what_is_no_geometry_model_is_one_line(make, says: str, command: str, place: Path, tmp_path: Path, capsys):
    model = make(tmp_path / "model", place)
    capsys.readouterr()
    assert run(command, place, tmp_path / "out", place / "photo.png", "--geometry", model) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert says in line
    assert not (tmp_path / "out").exists()
