"""Tables of jobs: every line is a job or says why not, and what asks for the same is one task."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from gen3r.batch.table import Line, read_table
from gen3r.batch.tasks import batches, check_lines
from gen3r.cameras.formats import write_cameras
from gen3r.cameras.paths import trajectory
from gen3r.cli.main import main
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.models.presets import nano
from gen3r.request import Request

DEFAULTS = nano().defaults


def picture(path: Path, shade: int = 100, size: tuple[int, int] = (60, 40)) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (shade, 50, 200)).save(path)
    return path


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


def test_json_lines_take_options_of_all_jobs_and_their_own(tmp_path: Path) -> None:
    table = write(
        tmp_path / "jobs.jsonl", {"inputs": ["a.png"]}, "", {"prompt": "a \u2028 room", "seed": 5, "extent": 2}
    )
    common = Job(request=Request(prompt="a plaza", extent=1.0))
    first, second = read_table(table, common)
    assert first.job
    assert second.job
    assert (first.number, second.number) == (1, 3)
    assert first.job.inputs == (tmp_path / "a.png",)
    assert (first.job.request.prompt, first.job.request.extent) == ("a plaza", 1.0)
    assert (second.job.request.prompt, second.job.seed, second.job.request.extent) == ("a \u2028 room", 5, 2.0)


def test_a_csv_reads_cells_as_its_options_are(tmp_path: Path) -> None:
    lines = (
        "inputs,prompt,num_frames,extent,size",
        'a.png;b.png,"1984, a ""room""",9,1.5,112x224',
        ",,,,",
        "c.png,,,,",
    )
    first, empty, last = read_table(write(tmp_path / "jobs.csv", *lines))
    assert first.job
    assert empty.job
    assert last.job
    assert first.job.inputs == (tmp_path / "a.png", tmp_path / "b.png")
    assert (first.job.request.prompt, first.job.request.num_frames) == ('1984, a "room"', 9)
    assert (first.job.request.extent, first.job.size) == (1.5, (112, 224))
    assert last.job.to_json() == {"inputs": [str(tmp_path / "c.png")]}


def test_pictures_times_cameras_times_seeds(tmp_path: Path) -> None:
    for name in ("b", "a"):
        picture(tmp_path / "photos" / f"{name}.png")
    lines = read_table(tmp_path / "photos", Job(seed=3), ["dolly_in", "orbit_left"], seeds=2)
    found = [(line.job.inputs[0].stem, line.job.camera, line.job.seed) for line in lines if line.job]
    expected = [(n, c, s) for n in "ab" for c in ("dolly_in", "orbit_left") for s in (3, 4)]
    assert found == expected
    assert [line.number for line in lines] == [1] * 4 + [2] * 4


def lines_with(name: str, *values: str) -> list[str]:
    """Lines of a table in which the option has each of these values, in JSON."""
    return [f'{{"prompt": "a", "{name}": {value}}}' for value in values]


WRONG = {  # what is said -> lines of which it is said
    "not a JSON object": [
        "{", "}", "[]", "7", "null", "true", "NaN", '"a room"', '{"prompt": "a"', '{"prompt": "a"},', "{'prompt': 'a'}",
        '{"prompt": a}', '{"prompt": "a"} {"prompt": "b"}', "prompt: a", "[" * 100_000, '{"a":' * 50_000,
        *lines_with("seed", "9" * 5000),
    ],
    "no option named promt": ['{"promt": "a"}'],
    "no option named": ['{"": 1}', *(f'{{"{name}": 1}}' for name in ("Prompt", "frames", "height", "images", "lora"))],
    "nothing to start from": ["{}", '{"prompt": ""}', '{"prompt": "  "}', '{"inputs": []}', '{"seed": 3}'],
    "prompt is a text": [f'{{"prompt": {value}}}' for value in ("7", '["a"]', "{}", "null")],
    "the prompt is not valid text": ['{"prompt": "\\ud800"}'],
    "negative_prompt is a text": lines_with("negative_prompt", "7"),
    "seed is a whole number": lines_with("seed", '"seven"', "1.5", "true", "[1]", "null"),
    "a seed is a whole number": lines_with("seed", "-1", "9223372036854775808"),
    "inputs is a list": lines_with("inputs", '"a.png"', "7", "[7]", '[["a.png"]]', '{"a": "b"}'),
    "no image, video or folder at": lines_with("inputs", '["no.png"]', '["whole.png", "no.png"]', '["\\u0000"]'),
    "empty.png is empty": [
        *lines_with("inputs", '["empty.png"]', '["."]', '[""]'), *lines_with("camera", '"empty.png"'),
    ],
    "is damaged or unusual": lines_with("inputs", '["cut.png"]', '["whole.png", "cut.png"]'),
    "not an image": lines_with("inputs", '["letter.png"]', '["broken.json"]'),
    "cannot be read as a video": lines_with("inputs", '["clip.mp4"]'),
    "holds no images": lines_with("inputs", '["nothing"]'),
    "not a mixture": lines_with("inputs", '["whole.png", "clip.mp4"]', '["nothing", "nothing"]'),
    "File name too long": lines_with("inputs", f'["{"x" * 5000}"]'),
    "camera is a text": lines_with("camera", "7", '["dolly_in"]'),
    "no camera path named": lines_with("camera", '"somersault"', '"Dolly_In"', '""', '"\\u0000"', f'"{"x" * 5000}"'),
    "leads from one image to another": lines_with("camera", '"between"', '"between", "inputs": ["whole.png"]'),
    "broken.json: it is no camera file": lines_with("camera", '"broken.json"'),
    "holds no cameras": lines_with("camera", '"numbers.json"'),
    "list of frames is empty": lines_with("camera", '"frames.json"'),
    "holds no COLMAP model": lines_with("camera", '"nothing"'),
    "is not a camera file": lines_with("camera", '"whole.png"'),
    "extent must be a number": lines_with("extent", 'NaN, "camera": "dolly_in"', 'Infinity, "camera": "dolly_in"'),
    "extent is a number": lines_with("extent", '"far"', "true"),
    "easing is linear or ease": lines_with("easing", '"bounce"', "1"),
    "a camera scale is a positive": lines_with("camera_scale", "0", "-1", "NaN", "Infinity"),
    "camera_scale is a number": lines_with("camera_scale", '"2"'),
    "size is N or HEIGHT": lines_with("size", "[112]", "[112, 112, 3]", "[]", "[112.5, 112]", '"large"', "true", "{}"),
    "the height must be a multiple": lines_with("size", "[100, 112]", "0", "[-112, 112]", '"7x7"'),
    "a clip has 4k": lines_with("num_frames", "6", "0", "-3"),
    "num_frames is a whole number": lines_with("num_frames", "17.0", '"17"'),
    "the output size is at least": lines_with("output_size", "50", "-1"),
    "output_size is a whole number": lines_with("output_size", "1.5"),
    "sampling needs 1 to": lines_with("num_inference_steps", "0"),
    "num_inference_steps is a whole number": lines_with("num_inference_steps", '"4"'),
    "guidance must lie between": lines_with("guidance_scale", "-1", "NaN", "1000"),
    "guidance_scale is a number": lines_with("guidance_scale", '"3"'),
}  # fmt: skip


def test_a_wrong_line_stops_no_other(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = picture(tmp_path / "whole.png", size=(400, 300))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[: len(whole.read_bytes()) // 2])
    for name in ("letter.png", "clip.mp4", "broken.json"):
        (tmp_path / name).write_text("Dear Sir or Madam,")
    (tmp_path / "empty.png").touch()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "frames.json").write_text('{"frames": []}')
    wrong = [(text, message) for message, lines in WRONG.items() for text in lines]
    assert len(wrong) >= 100
    rows = [row for i, (text, _) in enumerate(wrong) for row in (text, {"prompt": "a room", "seed": i})]
    table = write(tmp_path / "jobs.jsonl", *rows)
    tasks, bad = check_lines(read_table(table), DEFAULTS, "model")
    assert [task.line for task in tasks] == [*range(2, len(rows) + 1, 2)]
    assert [line.number for line in bad] == [*range(1, len(rows), 2)]
    for line, (text, message) in zip(bad, wrong, strict=True):
        assert message in line.error, text[:100]
    assert main(["batch", str(table), str(tmp_path / "out"), "--strict", "--workers", "0", "--model", str(model)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gen3r: line ")]
    assert [int(line.split()[2].removesuffix(":")) for line in said] == [line.number for line in bad]


def test_a_line_that_breaks_the_check_itself_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Job.check

    def broken(job: Job) -> None:
        check(job)
        if job.seed == 1:
            raise ZeroDivisionError("nobody\nthought of it")

    monkeypatch.setattr(Job, "check", broken)
    lines = [Line(i, Job(seed=i, request=Request(prompt="a"))) for i in (1, 2)]
    tasks, [bad] = check_lines(lines, DEFAULTS, "model")
    assert [t.line for t in tasks] == [2]
    assert (bad.number, bad.error) == (1, "ZeroDivisionError: nobody thought of it")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere.jsonl", None, "no table of jobs at"),
        ("empty.jsonl", "\n\n", "holds no jobs"),
        ("jobs.xlsx", "PK", "is no table of jobs"),
        ("jobs.csv", "promt\na room\n", "has a column 'promt'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)


def test_csv_that_is_damaged_in_one_row(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_bytes(b'prompt,seed\na,1\nb,2,3\n"c"x,3\nd\xff,4\ne,5\n')
    tasks, bad = check_lines(read_table(tmp_path / "jobs.csv"), DEFAULTS, "model")
    assert [t.job.request.prompt for t in tasks] == ["a", "e"]
    assert [line.number for line in bad] == [3, 4, 5]


def task_id(job: Job, model: str = "model") -> str:
    tasks, bad = check_lines([Line(1, job)], DEFAULTS, model)
    assert not bad
    return tasks[0].id


def test_a_task_is_known_by_request_contents_and_model(tmp_path: Path) -> None:
    a, copy, other = (picture(tmp_path / f"{n}.png", shade) for n, shade in (("a", 1), ("copy", 1), ("other", 2)))
    own = task_id(Job(inputs=(a,)))
    assert task_id(Job(inputs=(copy,))) == own
    assert task_id(Job(inputs=(a,), request=Request(num_inference_steps=DEFAULTS["num_inference_steps"]))) == own
    others = [Job(inputs=(other,)), Job(inputs=(a,), seed=1), Job(inputs=(a,), request=Request(prompt="a room"))]
    others += [
        Job(inputs=(a,), camera="dolly_in"),
        Job(inputs=(a, other)),
        Job(inputs=(a,), request=Request(guidance_scale=3.5)),
    ]
    own_path = Job(inputs=(a,), camera=str(tmp_path / "cameras.json"))
    lens = torch.tensor([[100.0, 0, 56], [0, 100, 56], [0, 0, 1]])
    cameras = trajectory("dolly_in", 9, lens, 112, 112)
    write_cameras(cameras, tmp_path / "cameras.json")
    ids = {own, *map(task_id, [*others, own_path]), task_id(Job(inputs=(a,)), "other model")}
    write_cameras(cameras.scaled(2), tmp_path / "cameras.json")
    ids.add(task_id(own_path))
    assert len(ids) == len(others) + 4


def test_lines_that_ask_for_the_same_are_one_task(tmp_path: Path) -> None:
    table = write(tmp_path / "jobs.jsonl", {"prompt": "a"}, {"prompt": "b"}, {"prompt": "a", "seed": 0})
    tasks, bad = check_lines(read_table(table), DEFAULTS, "model")
    assert [t.line for t in tasks] == [1, 2]
    assert [(line.number, line.status, line.error) for line in bad] == [(3, "repeated", "asks for the same as line 1")]


def test_a_batch_holds_jobs_of_one_size(tmp_path: Path) -> None:
    wide, tall = picture(tmp_path / "wide.png", size=(120, 80)), picture(tmp_path / "tall.png", size=(80, 120))
    jobs = [{"inputs": [str(p)], "camera": "dolly_in", "seed": s} for s in range(2) for p in (wide, tall)]
    jobs += [{"prompt": "a"}, {"prompt": "b", "num_frames": 9}, {"prompt": "c"}, {"prompt": "d"}]
    tasks, bad = check_lines(read_table(write(tmp_path / "jobs.jsonl", *jobs)), DEFAULTS, "model", batched=True)
    assert not bad
    assert [[t.line for t in group] for group in batches(tasks, 2)] == [[1, 3], [2, 4], [5, 7], [8], [6]]
    assert [len(group) for group in batches(tasks, 1)] == [1] * 8
