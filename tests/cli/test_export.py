"""`gen3r export`: formats by name; what cannot work gives one line, code 2, and no file."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from plyfile import PlyData

from gen3r.cli.main import build_parser, main
from gen3r.errors import InputError
from gen3r.export.formats import FORMATS, check_formats
from gen3r.export.save import save_scene
from gen3r.scene import Scene
from tests.export.conftest import make_scene

INSTALLED = [name for name, f in FORMATS.items() if not f.package]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "scene"
    save_scene(make_scene(), folder)
    return folder


def skip_without(name: str) -> None:
    form = FORMATS[name]
    if form.package:
        pytest.importorskip(form.package, reason=f"{form.package} is not installed (gen3r[{form.extra}])")


def export(*arguments: str | Path) -> int:
    return main(["export", *map(str, arguments)])


def test_every_format_has_its_place(saved: Path, tmp_path: Path, capsys):
    assert export(saved, *INSTALLED, "--out", tmp_path / "out") == 0
    expected = [FORMATS[name].path for name in INSTALLED]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(expected)
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == expected


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in INSTALLED])
def test_a_missing_extra_is_one_line(name: str, saved: Path, tmp_path: Path):
    form = FORMATS[name]
    code = f"import sys; sys.modules[{form.package!r}] = None; from gen3r.cli.main import main; "
    code += f"sys.exit(main(['export', {str(saved)!r}, 'ply', {name!r}]))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr == f"gen3r: error: the format {name} needs an extra: pip install 'gen3r[{form.extra}]'\n"
    assert not (saved / "export").exists()


def test_the_scene_may_be_its_file_and_the_folder_is_the_scenes_own(tmp_path: Path):
    make_scene().save(tmp_path / "scene.safetensors")
    assert export(tmp_path / "scene.safetensors", "tum") == 0
    assert [p.name for p in (tmp_path / "export").iterdir()] == ["trajectory.tum"]


def test_options_reach_the_points(saved: Path, tmp_path: Path):
    assert export(saved, "ply", "--out", tmp_path, "--max-points", "10", "--outliers", "0", "--axes", "opengl") == 0
    ply = PlyData.read(str(tmp_path / "points.ply"))
    assert len(ply["vertex"].data) <= 10
    assert any("y up" in comment for comment in ply.comments)


@pytest.mark.filterwarnings("default")
def test_axes_that_turn_nothing_are_said(saved: Path, tmp_path: Path, capsys):
    assert export(saved, "tum", "--out", tmp_path, "--axes", "opengl") == 0
    assert "warning: --axes turns ply, gaussians only" in capsys.readouterr().err


def test_earlier_exports_need_overwrite(saved: Path, tmp_path: Path, capsys):
    assert export(saved, "tum", "frames", "--out", tmp_path) == 0
    (tmp_path / "frames" / "mine.txt").write_text("keep")
    assert export(saved, "kitti", "frames", "--out", tmp_path) == 2
    assert re.fullmatch(r"gen3r: error: .*frames exists; .* add --overwrite", capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "trajectory.kitti").exists()
    assert export(saved, "kitti", "frames", "--out", tmp_path, "--overwrite") == 0
    assert (tmp_path / "frames" / "mine.txt").read_text() == "keep"


BAD = {
    "no format": ([], "the following arguments are required: FORMAT"),
    "an unknown format": (["glbb"], r"no export format glbb \(did you mean glb\?\); the formats are ply, .*"),
    "no length": (["ply", "--scale-from", "1m"], r"argument --scale-from: a known length is .*, not 1m .*"),
    "no pixel": (["ply", "--scale-from", "0:1,1:99,1=2"], r"the scene has no pixel 99,1 in frame 0; .*"),
    "no share": (["ply", "--unsure", "1"], r"--unsure must be a number from 0 to below 1, not 1"),
    "no points": (["ply", "--max-points", "0"], r"--max-points must be at least 1, not 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, saved: Path, tmp_path: Path, capsys):
    arguments, message = BAD[case]
    assert export(saved, *arguments, "--out", tmp_path / "out") == 2
    [*_, last] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"gen3r: error: {message}.*", last)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.mkdir(), "holds no scene.safetensors"),
        (lambda p: None, "no scene at"),
        (lambda p: p.write_bytes(b"not a scene"), "cannot be read as a scene"),
    ],
)
def test_a_folder_that_is_no_scene(make, message: str, tmp_path: Path, capsys):
    make(tmp_path / "it")
    assert export(tmp_path / "it", "ply") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(name: str, saved: Path, tmp_path: Path):
    skip_without(name)
    scene = Scene.load(saved / "scene.safetensors")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*: .*; choose another folder") as caught:
            scene.export(tmp_path / "out", name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "/." not in str(caught.value)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("name", FORMATS)
def test_a_scene_without_points_has_every_format(name: str, tmp_path: Path):
    skip_without(name)
    scene = make_scene(frames=1)
    scene.mask[:] = False
    [path] = scene.export(tmp_path, name)
    assert path.exists()


def test_the_help_has_every_format(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["export", "--help"])
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +{re.escape(f.what)}", shown, re.M) for name, f in FORMATS.items())


def test_every_pair_of_formats_has_places_of_its_own():
    assert len({f.path for f in FORMATS.values()}) == len(FORMATS)
    check_formats(INSTALLED)
