"""Jobs: what the command line, files of options and Python ask for is one value."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from gen3r.cameras.formats import write_cameras
from gen3r.cameras.paths import trajectory
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.request import Request

from .tiny import tiny_pipeline


def test_a_job_survives_json() -> None:
    job = Job(
        inputs=(Path("/photos/a.jpg"), Path("/photos/b.jpg")), camera="orbit_left", size=(112, 224), seed=7,
        request=Request(prompt="a room", extent=12.0, num_frames=9, output_size=0, guidance_scale=2.5),
    )  # fmt: skip
    again = Job.from_json(json.loads(json.dumps(job.to_json())))
    assert again.to_json() == job.to_json()
    assert vars(again.request) == vars(job.request)
    assert (again.inputs, again.size, again.seed) == (job.inputs, job.size, job.seed)
    assert Job().to_json() == {}


def test_files_lie_beside_the_file_of_options(tmp_path: Path) -> None:
    (tmp_path / "path.json").touch()
    (tmp_path / "job.json").write_text(json.dumps({"inputs": ["a.jpg"], "camera": "path.json", "size": "112x224"}))
    job = Job.load(tmp_path / "job.json")
    assert (job.inputs, job.camera) == ((tmp_path / "a.jpg",), str(tmp_path / "path.json"))
    assert job.size == (112, 224)
    assert Job.from_json({"camera": "orbit_left"}, tmp_path).camera == "orbit_left"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file of options in JSON"),
        ("[]", "options are a JSON object, not list"),
        ('{"promt": "a room"}', "no option named promt"),
        ('{"seed": "seven"}', "seed is a whole number; not 'seven'"),
        ('{"seed": true}', "seed is a whole number; not True"),
        ('{"inputs": "a.jpg"}', "inputs is a list; not 'a.jpg'"),
        ('{"size": [112, "x"]}', "size is N or HEIGHTxWIDTH"),
        ('{"easing": "bouncy"}', "easing is linear or ease; not 'bouncy'"),
        ('{"prompt": null}', "prompt is a text; not None"),
    ],
)
def test_a_bad_file_of_options_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Job.load(tmp_path / "job.json")


def test_a_job_makes_the_scene_of_its_request(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    Image.new("RGB", (112, 112), (200, 120, 40)).save(tmp_path / "photo.png")
    request = Request(num_inference_steps=1, output_size=0)
    job = Job(inputs=(tmp_path / "photo.png",), camera="dolly_in", seed=3, request=request)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = job.generate(pipe)
        image = Image.open(tmp_path / "photo.png")
        options = {"num_inference_steps": 1, "output_size": 0, "generator": torch.Generator().manual_seed(3)}
        [other] = pipe(image, cameras="dolly_in", **options)
    assert torch.equal(scene.frames, other.frames)
    assert scene.settings["seed"] == 3
    assert scene.settings["inputs"] == ["photo.png"]


def test_a_camera_file_is_scaled(tmp_path: Path) -> None:
    cameras = trajectory("dolly_in", 9, torch.tensor([[100.0, 0, 56], [0, 100, 56], [0, 0, 1]]), 112, 112)
    write_cameras(cameras, tmp_path / "cameras.json")
    job = Job(camera=str(tmp_path / "cameras.json"), camera_scale=2.0, request=Request(prompt="a room"))
    path = job.resolve(tiny_pipeline().defaults).cameras
    torch.testing.assert_close(path.centres, 2 * cameras.centres)
