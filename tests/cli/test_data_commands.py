"""`gen3r data convert`, `check` and `show` as people use them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image

from gen3r.cli.main import main
from gen3r.data.readers import READERS, open_dataset
from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.data.synthetic import light, places
from gen3r.data.synthetic.options import Place, Time, Weather
from tests.data.layouts import Truths, write_colmap, write_realestate, write_standard, write_wildrgbd

Error = pytest.CaptureFixture[str]


def data(*arguments: str | Path) -> int:
    return main(["data", *map(str, arguments)])


@pytest.fixture
def wild(truths: Truths, tmp_path: Path) -> Path:
    write_wildrgbd(tmp_path / "wild", truths("wildrgbd"))
    return tmp_path / "wild"


def break_picture(wild: Path, number: int = 1) -> None:
    path = wild / "apple" / "scenes" / "scenes_001" / "rgb" / f"{number:05d}.png"
    path.write_bytes(path.read_bytes()[:500])


def test_the_options_know_the_large_world() -> None:
    assert (tuple(places.PLACES), tuple(light.TIMES), tuple(light.WEATHERS)) == (
        get_args(Place),
        get_args(Time),
        get_args(Weather),
    )


@pytest.mark.parametrize("action", ["convert", "check"])
def test_the_help_names_every_dataset(action: str, capsys: Error) -> None:
    with pytest.raises(SystemExit):
        data(action, "--help")
    words = capsys.readouterr().out.replace(",", " ").split()
    assert set(READERS) <= set(words)


def test_synthesize(tmp_path: Path, capsys: Error) -> None:
    chosen = ("--place", "street", "--weather", "rain", "--time", "dusk", "--movers")
    assert data("synthesize", 1, tmp_path / "made", "--frames", 2, "--size", 28, "--workers", 1, *chosen) == 0
    (record,) = ClipShards(tmp_path / "made").attributes
    assert record is not None
    assert (record["place"], record["time"], record["weather"]) == ("street", "dusk", "rain")
    assert data("synthesize", 1, tmp_path / "dry", "--place", "room", "--weather", "fog") == 2
    assert "no weather in a room" in capsys.readouterr().err
    assert data("synthesize", 1, tmp_path / "dry", "--textures", tmp_path / "none") == 2
    assert "none is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "dry").exists()


def test_convert_check_show(wild: Path, tmp_path: Path, capsys: Error) -> None:
    assert data("convert", "wildrgbd", wild, tmp_path / "made") == 0
    assert "1 scenes with 5 frames written, 0 were there, 0 skipped, 0 frames left out" in capsys.readouterr().out
    assert data("convert", "wildrgbd", wild, tmp_path / "made") == 0
    assert "0 scenes with 0 frames written, 1 were there" in capsys.readouterr().out
    assert data("check", wild, "--json", tmp_path / "report.json", "--pixels", "0.75") == 1
    printed = capsys.readouterr()
    assert "pixels far from square" in printed.out
    assert "wildrgbd, 1 scenes" in printed.err
    (scene,) = json.loads((tmp_path / "report.json").read_text())["scenes"]
    assert scene["agreement"]["reprojection_px"] < 0.75  # the limit that was asked for
    for action, flag, file in (("check", "--json", "report.json"), ("show", "--out", "sheet.png")):  # before any work
        (tmp_path / "folder" / file).mkdir(parents=True)
        assert data(action, wild, flag, tmp_path / "folder" / file) == 2
        printed = capsys.readouterr()
        assert f"{file} is a folder; choose a file" in printed.err
        assert not printed.out
    assert data("show", tmp_path / "made", "--out", tmp_path / "sheet.png") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 500


def test_show_draws_points(truths: Truths, tmp_path: Path) -> None:
    write_colmap(tmp_path / "colmap", truths("colmap"))
    above = []
    for number in range(3):
        assert data("show", tmp_path / "colmap", "--out", tmp_path / f"{number}.png") == 0
        with Image.open(tmp_path / f"{number}.png") as sheet:
            above.append(sheet.crop((sheet.width - 170, 40, sheet.width, sheet.height)).tobytes())
        (tmp_path / "colmap" / "garden" / "sparse" / "0" / "points3D.txt").unlink(missing_ok=True)
    assert above[0] != above[1]
    assert above[1] == above[2]


def test_check_is_content_with_a_good_dataset(truths: Truths, tmp_path: Path, capsys: Error) -> None:
    write_realestate(tmp_path, truths("mvimgnet"))
    assert data("check", tmp_path, "--frames", 4, "--limit", 1) == 0
    assert "1 scenes, 0 with problems" in capsys.readouterr().out
    assert data("show", tmp_path, "--out", tmp_path / "sheet.jpg") == 0


def test_broken_frames_are_left_out_or_stop(wild: Path, tmp_path: Path, capsys: Error) -> None:
    break_picture(wild)
    assert data("convert", "wildrgbd", wild, tmp_path / "strict", "--strict") == 2
    assert "00001.png is damaged" in capsys.readouterr().err
    assert data("convert", "wildrgbd", wild, tmp_path / "made", "--pictures", "png") == 0
    assert "4 frames written, 0 were there, 0 skipped, 1 frames left out" in capsys.readouterr().out
    assert data("check", wild) == 1
    assert "1 of 5 frames cannot be used" in capsys.readouterr().out


def test_a_dataset_with_nothing_whole(truths: Truths, tmp_path: Path, capsys: Error) -> None:
    write_standard(tmp_path / "set", truths("standard"))
    (tmp_path / "set" / "plaza" / "transforms.json").write_text("{}")
    assert data("convert", "standard", tmp_path / "set", tmp_path / "made") == 2
    assert "warning: plaza skipped (1 so far)" in capsys.readouterr().err
    assert data("show", tmp_path / "set", "--dataset", "standard", "--out", tmp_path / "sheet.png") == 2
    assert data("check", tmp_path / "set", "--dataset", "standard") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "kitty", "SRC", "DST"], "invalid choice: 'kitty'"),
        (["convert", "wildrgbd", "nowhere", "DST"], "no folder at nowhere"),
        (["convert", "wildrgbd", "SRC", "FILE"], "is a file; choose a folder"),
        (["convert", "wildrgbd", "SRC", "DST", "--workers", "0"], "--workers must be at least 1"),
        (["convert", "co3d", "SRC", "DST"], "holds no co3d scene; expected"),
        (["convert", "wildrgbd", "SRC", "DST", "--scene", "banana"], "no scene of"),
        (["check", "EMPTY"], "name it with --dataset"),
        (["check", "SRC", "--pixels", "0"], "--pixels must be positive, not 0"),
        (["check", "SRC", "--limit", "0"], "--limit must be at least 1"),
        (["show", "SRC", "--out", "sheet.txt"], "must be a .png or .jpg"),
        (["show", "SRC", "--count", "-1"], "--count must be at least 1"),
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: list[str], message: str, wild: Path, tmp_path: Path, capsys: Error
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    places = {"SRC": wild, "DST": tmp_path / "made", "FILE": tmp_path / "file", "EMPTY": tmp_path / "empty"}
    assert data(*(places.get(a, a) for a in arguments)) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("gen3r: error")]
    assert len(lines) == 1
    assert message in lines[0]


def test_a_video_is_converted_with_a_model(truths: Truths, tmp_path: Path) -> None:
    import torch

    from gen3r.export.video import write_video
    from tests.tiny import tiny_pipeline

    (tmp_path / "videos").mkdir()
    write_video(torch.from_numpy(truths("mvimgnet").frames.copy()), tmp_path / "videos" / "walk.mp4")
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    assert data("convert", "videos", tmp_path / "videos", tmp_path / "made", "--model", tmp_path / "none") == 2
    options = ("--model", tmp_path / "tiny", "--device", "cpu")
    assert data("convert", "videos", tmp_path / "videos", tmp_path / "made", *options) == 0
    record = open_dataset("standard", tmp_path / "made")[0]
    assert (len(record), record.dataset) == (5, "videos")
    assert record.read_depth is not None


def test_the_console_script(wild: Path, tmp_path: Path) -> None:
    """In a process of its own, as two workers need it."""
    command = [sys.executable, "-m", "gen3r.cli.main", "data", "convert", "wildrgbd", wild, tmp_path / "made"]
    done = subprocess.run([*map(str, command), "--workers", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "5 frames written" in done.stdout


def test_own_clips_are_shown_checked_and_converted(tmp_path: Path, capsys: Error) -> None:
    synthesize(tmp_path / "clips", 2, frames=3, size=28, workers=1)
    assert data("show", tmp_path / "clips", "--out", tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(sheet.getcolors(2**24) or []) > 100
    assert data("check", tmp_path / "clips") in (0, 1)
    assert "clips-000000/01" in capsys.readouterr().out
    assert data("convert", "clips", tmp_path / "clips", tmp_path / "made") == 0
    clips, made = ClipShards(tmp_path / "clips"), open_dataset("standard", tmp_path / "made")
    assert len(made) == len(clips) == 2
    assert torch.equal(made[1].read_frame(2), clips[1].frames[2])
    assert made[1].read_depth is not None
    torch.testing.assert_close(made[1].read_depth(2), clips[1].depth[2], rtol=0.01, atol=0.01)
    assert made[1].captions == (clips.captions[1],)
