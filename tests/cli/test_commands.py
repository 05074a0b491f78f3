"""The command line as people use it: what works gives whole folders, what cannot work gives one line and code 2."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from safetensors.torch import load_file, save_file

from gen3r.cli.common import OutputOptions, duration, exit_code, once, parse_output, write_scene
from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.export.save import WRITERS
from gen3r.export.video import write_video
from gen3r.scene import Scene
from tests.export.conftest import make_scene

FRAMES, SIZE = 5, 112
few = pytest.mark.usefixtures("few_files")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture(path, 0)
    return path


def picture(path: Path, seed: int, size: tuple[int, int] = (90, 120)) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(path)


def generate(model: Path, out: Path, *arguments: str | Path) -> int:
    return main(["generate", *map(str, arguments), "--model", str(model), "--device", "cpu", "--out", str(out)])


class TestGenerate:
    def test_a_photo_becomes_every_file(self, model: Path, photo: Path, tmp_path: Path, capsys):
        assert (
            generate(model, tmp_path / "out", photo, "--camera", "dolly_in", "--seed", "3", "--prompt", "a wall") == 0
        )
        assert {p.name for p in (tmp_path / "out").iterdir()} == set(WRITERS)
        scene = Scene.load(tmp_path / "out" / "scene.safetensors")
        assert scene.frames.shape == (FRAMES, 90, 120, 3)  # the photo's own size
        about = json.loads((tmp_path / "out" / "metadata.json").read_text())
        assert scene.prompt == "a wall"
        assert scene.settings["seed"] == 3
        assert scene.settings["task"] in json.dumps(about)
        printed = capsys.readouterr()
        assert [Path(line).name for line in printed.out.splitlines()] == list(WRITERS)
        assert "Traceback" not in printed.err

    @pytest.mark.parametrize(
        ("count", "task"), [(0, "text"), (1, "one view"), (2, "two views"), (FRAMES, "all views"), (9, "all views")]
    )
    @few
    def test_the_task_follows_from_the_inputs(self, model: Path, tmp_path: Path, count: int, task: str, capsys):
        paths = [tmp_path / f"{i}.png" for i in range(count)]
        for i, path in enumerate(paths):
            picture(path, i)
        assert generate(model, tmp_path / "out", *paths, "--prompt", "a plaza") == 0
        made = Scene.load(tmp_path / "out" / "scene.safetensors").settings["task"]
        assert made.startswith(task.split()[0]), (made, capsys.readouterr().err)

    @few
    def test_a_folder_and_a_video_are_clips(self, model: Path, tmp_path: Path):
        frames = torch.randint(0, 255, (7, 96, 96, 3), dtype=torch.uint8)
        folder = tmp_path / "pictures"
        folder.mkdir()
        for i, frame in enumerate(frames):
            Image.fromarray(frame.numpy()).save(folder / f"{i}.png")
        assert generate(model, tmp_path / "a", folder) == 0
        scene = Scene.load(tmp_path / "a" / "scene.safetensors")
        clip = tmp_path / "clip.mp4"
        write_video(scene.frames, clip)
        assert generate(model, tmp_path / "b", clip) == 0
        assert Scene.load(tmp_path / "b" / "scene.safetensors").settings["task"] == scene.settings["task"]

    @few
    def test_cameras_come_from_an_earlier_scene(self, model: Path, photo: Path, tmp_path: Path):
        assert generate(model, tmp_path / "a", photo) == 0
        assert generate(model, tmp_path / "b", photo, "--camera", tmp_path / "a" / "cameras.json") == 0

    @few
    def test_a_path_between_two_photos(self, model: Path, photo: Path, tmp_path: Path):
        picture(tmp_path / "last.png", 5)
        assert generate(model, tmp_path / "a", photo, tmp_path / "last.png", "--camera", "between") == 0
        assert Scene.load(tmp_path / "a" / "scene.safetensors").settings["camera"] == "between"

    @few
    def test_exports_come_with_the_scene(self, model: Path, photo: Path, tmp_path: Path, capsys):
        assert generate(model, tmp_path / "out", photo, "--export", "glb", "tum") == 0
        assert {p.name for p in (tmp_path / "out" / "export").iterdir()} == {"mesh.glb", "trajectory.tum"}
        assert capsys.readouterr().out.splitlines()[-1].endswith("out/export/trajectory.tum")

    def test_an_unknown_export_is_refused_before_any_work(self, photo: Path, tmp_path: Path, capsys):
        assert generate(tmp_path / "no model", tmp_path / "out", photo, "--export", "colmop") == 2
        assert capsys.readouterr().err.startswith("gen3r: error: no export format colmop (did you mean colmap?)")

    @few
    def test_the_seed_decides(self, model: Path, photo: Path, tmp_path: Path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            assert generate(model, tmp_path / name, photo, "--seed", str(seed)) == 0
        a, b, c = (load_file(tmp_path / n / "scene.safetensors")["frames"] for n in "abc")
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    @pytest.mark.filterwarnings("ignore:this model was trained")
    @few
    def test_a_size_that_is_not_square(self, model: Path, photo: Path, tmp_path: Path):
        assert generate(model, tmp_path / "out", photo, "--size", "112x224", "--frames", "1", "--guidance", "1") == 0
        assert Scene.load(tmp_path / "out" / "scene.safetensors").frames.shape == (1, 112, 224, 3)


def file(name: str, content: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [str(folder / name)]

    return make


def truncated(folder: Path) -> list[str]:
    picture(folder / "whole.png", 1)
    data = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    return [str(folder / "cut.png")]


def camera_file(change: Callable[[dict], None]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        frame = {"transform_matrix": np.eye(4).tolist(), "file_path": "0.png"}
        data = {"fl_x": 100.0, "fl_y": 100.0, "cx": 56.0, "cy": 56.0, "w": 112, "h": 112, "frames": [frame, frame]}
        change(data)
        (folder / "transforms.json").write_text(json.dumps(data))
        return ["--prompt", "a room", "--camera", str(folder / "transforms.json")]

    return make


def spoil_pose(value: float) -> Callable[[dict], None]:
    def change(data: dict) -> None:
        data["frames"][1] = {"transform_matrix": np.full((4, 4), value).tolist(), "file_path": "1.png"}

    return change


BAD = {
    "nothing to start from": lambda f: [],
    "an empty prompt": lambda f: ["--prompt", "  "],
    "a missing file": lambda f: [str(f / "nowhere.jpg")],
    "an empty file": file("empty.png", b""),
    "no picture": file("letter.png", b"Dear Sir or Madam,"),
    "a truncated picture": truncated,
    "an empty folder": lambda f: [str((f / "empty").mkdir() or f / "empty")],
    "a wrong frame count": lambda f: ["--prompt", "x", "--frames", "6"],
    "no frames": lambda f: ["--prompt", "x", "--frames", "0"],
    "a wrong size": lambda f: ["--prompt", "x", "--size", "100"],
    "a size that is no size": lambda f: ["--prompt", "x", "--size", "big"],
    "no steps": lambda f: ["--prompt", "x", "--steps", "0"],
    "a guidance that is no number": lambda f: ["--prompt", "x", "--guidance", "nan"],
    "a negative seed": lambda f: ["--prompt", "x", "--seed", "-1"],
    "an unknown path": lambda f: ["--prompt", "x", "--camera", "somersault"],
    "a path between less than two": lambda f: ["--prompt", "x", "--camera", "between"],
    "an infinite extent": lambda f: ["--prompt", "x", "--camera", "dolly_in", "--extent", "inf"],
    "a camera scale of zero": lambda f: ["--prompt", "x", "--camera-scale", "0"],
    "a camera of NaN": camera_file(spoil_pose(float("nan"))),
    "a singular camera": camera_file(spoil_pose(0.0)),
    "cameras without a frame": camera_file(lambda data: data["frames"].clear()),
    "a lens without length": camera_file(lambda data: data.update(fl_x=0.0)),
    "a camera file that is no JSON": lambda f: ["--prompt", "x", "--camera", *file("c.json", b"{")(f)],
    "an unknown device": lambda f: ["--prompt", "x", "--device", "abacus"],
    "an unknown option": lambda f: ["--prompt", "x", "--speed", "9"],
    "an unknown model": lambda f: ["--prompt", "x", "--model", str(f / "no-model")],
}


@pytest.mark.parametrize("case", BAD, ids=[name.replace(" ", "-") for name in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(case: str, model: Path, tmp_path: Path, capsys):
    arguments = BAD[case](tmp_path)
    before = set(tmp_path.rglob("*"))
    command = ["generate", "--model", str(model), "--device", "cpu", "--out", str(tmp_path / "out"), *arguments]
    assert main(command) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("gen3r: error: ")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["generate", "https://example.com/a.jpg", "--out", "new"], "a.jpg; download it first"),
        (["generate", "--request", "no.json", "--out", "new"], "no file of options at no.json"),
        (["generate", "--prompt", "x", "--camera", "no.json", "--out", "new"], "no camera file at no.json"),
        (["generate", "--prompt", "x", "--camara", "still", "--out", "new"], "(see gen3r generate --help)"),
        (["data", "show", ".", "--limit", "3"], "(see gen3r data show --help)"),
    ],
)
def test_errors_name_what_is_wrong(command: list[str], said: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert capsys.readouterr().err.strip().endswith(said)


def test_what_is_checked_twice_warns_once() -> None:
    said: list[str] = []
    show = once(lambda message, *_: said.append(str(message)))
    for message in ("one", "one", "two"):
        show(UserWarning(message), UserWarning)
    assert said == ["one", "two"]


def test_too_few_steps_are_refused_before_the_model_is_loaded(tmp_path: Path, capsys):
    assert main(["generate", "--prompt", "a room", "--steps", "1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "gen3r: error: this model samples in 4 steps, or in 2 at least; not in 1\n"


@pytest.mark.filterwarnings("default")
@few
def test_a_very_long_prompt_is_cut_and_says_so(model: Path, photo: Path, tmp_path: Path, capsys):
    words = "a very long story " * 200
    assert generate(model, tmp_path / "out", photo, "--prompt", words, "--steps", "1") == 0
    assert "tokens; only the first" in capsys.readouterr().err


def spoilt(model: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(model, target)
    path = next((target / "vae").glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return target


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop(sorted(t)[0]), "lacks the tensor"),
        (lambda t: t.update(stranger=torch.zeros(1)), "unknown tensor"),
        (lambda t: t.update({sorted(t)[0]: torch.zeros(2, 3)}), "has shape"),
    ],
)
def test_a_spoilt_checkpoint(change, says: str, model: Path, tmp_path: Path, capsys):
    broken = spoilt(model, tmp_path / "model", change)
    for command in (["generate", "--prompt", "x", "--out", str(tmp_path / "out"), "--model"], ["info"]):
        assert main([*command, str(broken)]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pickled_checkpoint_is_not_opened(model: Path, tmp_path: Path, capsys):
    broken = Path(shutil.copytree(model, tmp_path / "model"))
    for path in (broken / "vae").glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    assert main(["info", str(broken)]) == 2
    assert "pickle" in capsys.readouterr().err


@few
def test_an_existing_scene_is_kept_unless_told_otherwise(model: Path, photo: Path, tmp_path: Path, capsys):
    assert generate(model, tmp_path / "out", photo, "--steps", "1") == 0
    before = (tmp_path / "out" / "rgb.mp4").read_bytes()
    assert generate(model, tmp_path / "out", photo, "--steps", "1", "--seed", "5") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "rgb.mp4").read_bytes() == before
    assert generate(model, tmp_path / "out", photo, "--steps", "1", "--seed", "5", "--overwrite") == 0
    assert (tmp_path / "out" / "rgb.mp4").read_bytes() != before


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: signal.Signals, model: Path, photo: Path, tmp_path: Path):
    command = ["generate", str(photo), "--model", str(model), "--device", "cpu", "--steps", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gen3r.cli.main", *command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    seen = b""
    while not re.search(rb"denoising:.* [1-9]\d*/100000", seen):  # until a step is done
        piece = process.stderr.read1(200)  # pyright: ignore[reportAttributeAccessIssue]
        assert piece, seen
        seen += piece
    process.send_signal(number)
    _, rest = process.communicate()
    assert process.returncode == 128 + number
    assert rest.splitlines()[-1] == b"gen3r: interrupted; nothing was written"
    assert b"Traceback" not in seen + rest
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


@few
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_ends_the_run(
    number: signal.Signals, model: Path, photo: Path, tmp_path: Path, monkeypatch, capsys
):
    steps = []

    def scheduler_step(self, *arguments, **options):
        steps.append(1)
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        return step(self, *arguments, **options)

    step = FlowMatchEulerDiscreteScheduler.step
    monkeypatch.setattr(FlowMatchEulerDiscreteScheduler, "step", scheduler_step)
    command = ["generate", str(photo), "--model", str(model), "--device", "cpu", "--steps", "4"]
    before = signal.getsignal(number)
    assert main([*command, "--out", str(tmp_path / "out")]) == 128 + number
    assert len(steps) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "gen3r: interrupted; nothing was written"
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    assert main([*command, "--out", str(tmp_path / "out")]) == 0


@few
def test_reconstruct(model: Path, photo: Path, tmp_path: Path, capsys):
    out = str(tmp_path / "out")
    assert main(["reconstruct", str(photo), str(photo), "--model", str(model), "--device", "cpu", "--out", out]) == 0
    shape = Scene.load(tmp_path / "out" / "scene.safetensors").frames.shape
    assert shape == (2, 98, 126, 3)  # in the shape of the photo
    Image.new("RGB", (120, 90), "grey").save(photo)
    many = ["reconstruct", *[str(photo)] * 7, "--model", str(model), "--device", "cpu", "--out", out, "--overwrite"]
    assert main(many) == 0
    assert "the images could not be matched" in capsys.readouterr().err
    assert len(Scene.load(tmp_path / "out" / "scene.safetensors").frames) == 7


@pytest.mark.parametrize("options", [["--size", "113"], ["--frames", "0"]])
def test_reconstruct_refuses(options: list[str], model: Path, photo: Path, tmp_path: Path, capsys):
    out = str(tmp_path / "out")
    assert main(["reconstruct", str(photo), "--model", str(model), "--out", out, *options]) == 2
    assert capsys.readouterr().err.startswith("gen3r: error: ")
    assert not (tmp_path / "out").exists()


def test_a_working_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["info"]) == 2
    assert "the working folder has been removed" in capsys.readouterr().err


def test_too_little_memory_to_start():
    command = [sys.executable, "-m", "gen3r.cli.main", "info"]
    run = subprocess.run(["bash", "-c", 'ulimit -v 524288; "$@"', "_", *command], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == "gen3r: error: 512 MB of memory are allowed here, too little to start; see ulimit -v\n"


def test_python_without_docstrings():
    run = subprocess.run([sys.executable, "-OO", "-m", "gen3r.cli.main", "info"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("gen3r: error: python -OO drops docstrings, which transformers needs")
    assert run.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@few
def test_messages_that_go_nowhere_do_not_end_the_work(
    model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with open("/dev/full", "w") as full:
        for name, stream in (("none", None), ("full", full)):
            monkeypatch.setattr(sys, "stderr", stream)
            assert generate(model, tmp_path / name, photo) == 0
            assert {p.name for p in (tmp_path / name).iterdir()} == set(WRITERS)


def test_an_interrupt_while_the_last_line_is_written(monkeypatch: pytest.MonkeyPatch):
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", Interrupted())
    assert main(["generate"]) == 130


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libx264.so.165: failed to map segment from shared object"),
        RuntimeError("error ending compression stream: Allocation error : not enough memory"),
    ],
)
def test_a_library_that_finds_no_memory_is_one_line(error: Exception, capsys):
    def run() -> None:
        raise error

    assert exit_code(run) == 2
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(61, "1 minute"), (115, "2 minutes"), (6600, "110 minutes"), (7500, "2 hours"), (200_000, "2 days")],
)
def test_lengths_of_time_are_in_plain_words(seconds: float, said: str):
    assert duration(seconds) == said


@few
def test_a_variant_of_the_weights(model: Path, tmp_path: Path, capsys):
    folder = shutil.copytree(model, tmp_path / "model")
    [file] = (folder / "transformer").glob("*.safetensors")
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file.with_suffix(".fp16.safetensors"))
    file.unlink()
    assert main(["info", str(folder), "--variant", "fp16"]) == 0
    assert re.search(r"^  transformer .* float16$", capsys.readouterr().out, re.MULTILINE)
    assert generate(folder, tmp_path / "half", "--prompt", "x", "--variant", "fp16") == 0
    assert generate(folder, tmp_path / "none", "--prompt", "x", "--variant", "int4") == 2
    assert "no weights of the variant int4" in capsys.readouterr().err


def test_info_and_convert(model: Path, tmp_path: Path, capsys):
    published, ours = tmp_path / "published", tmp_path / "ours"
    assert main(["convert", str(model), str(published)]) == 0
    assert main(["convert", str(published), str(ours)]) == 0
    assert main(["convert", str(published), str(ours)]) == 2
    tables = []
    for folder in (model, published, ours):
        capsys.readouterr()
        assert main(["info", str(folder)]) == 0
        tables.append(capsys.readouterr().out.splitlines()[1:])
    assert tables[0] == tables[1] == tables[2]
    assert any("transformer" in line for line in tables[0])


def test_a_tilde_that_the_shell_left():
    assert parse_output("~/scene") == Path.home() / "scene"


def test_an_empty_output_is_refused(photo: Path, capsys):
    assert main(["generate", str(photo), "--out", ""]) == 2
    assert "argument --out: the name is empty" in capsys.readouterr().err


@few
def test_names_that_the_console_cannot_show(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    picture(tmp_path / os.fsdecode(b"caf\xe9.png"), 0)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252"))
    command = ["reconstruct", str(next(tmp_path.iterdir())), "--model", str(model), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "мир\x1b[31m")]) == 0
    assert b"\\u043c\\u0438\\u0440" in printed.getvalue()
    about = json.loads((tmp_path / "мир\x1b[31m" / "metadata.json").read_text())
    assert [os.fsencode(name) for name in about["settings"]["inputs"]] == [b"caf\xe9.png"]


def test_control_characters_do_not_reach_the_console(tmp_path: Path, capsys):
    assert main(["reconstruct", str(tmp_path / "a\x1b[31m.png"), "--out", str(tmp_path / "out")]) == 2
    assert "a\\x1b[31m.png" in capsys.readouterr().err


def test_a_scene_that_cannot_be_written_goes_somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "rescued").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "rescued"))
    scene, out = make_scene(), tmp_path / "out"
    with OutputOptions(out=out).reserved():
        out.write_text("in the way")
        with pytest.raises(InputError, match=r"is a file; .*; the finished scene is in .*rescued/out-") as caught:
            write_scene(scene, OutputOptions(out=out, export=("glb",)))
    [folder] = (tmp_path / "rescued").iterdir()
    assert str(caught.value).endswith(str(folder))
    assert {p.name for p in folder.iterdir()} == set(WRITERS)
    assert torch.equal(Scene.load(folder / "scene.safetensors").frames, scene.frames)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@pytest.mark.parametrize(("output", "code"), [("| true", 0), ("> /dev/full", 2), (">&-", 0)])
def test_an_output_that_nobody_reads(output: str, code: int):
    command = f"set -o pipefail; PYTHONUNBUFFERED= {sys.executable} -m gen3r.cli.main --version {output}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stdout
    assert ("gen3r: error: cannot print: No space left on device" in done.stderr) == bool(code)
