"""The standard form: every dataset converts to it, resumably, and comes back the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gen3r.data.readers import READERS, detect_dataset, open_dataset
from gen3r.data.readers.base import Reader
from gen3r.data.records import ClipRecord
from gen3r.data.standard import convert, folder_name
from gen3r.errors import InputError
from tests.data.layouts import LAYOUTS, Truths, write_standard
from tests.data.test_readers import as_stored, frame_error, gap, points_gap, the_scene


@pytest.fixture
def source(truths: Truths, tmp_path: Path) -> Reader:
    """Three scenes in the standard form."""
    for name in ("a", "b", "c"):
        write_standard(tmp_path / "source" / name, truths("standard"))
    return open_dataset("standard", tmp_path / "source")


def equal(one: ClipRecord, other: ClipRecord) -> None:
    assert torch.equal(one.cameras.T_world_camera, other.cameras.T_world_camera)
    assert torch.equal(one.cameras.K_px, other.cameras.K_px)
    assert (one.metric, one.captions) == (other.metric, other.captions)
    assert one.read_points is not None
    assert other.read_points is not None
    torch.testing.assert_close(one.read_points().points, other.read_points().points)
    assert torch.equal(one.read_points().colours, other.read_points().colours)  # type: ignore[arg-type]
    for i in range(len(one)):
        assert torch.equal(one.read_frame(i), other.read_frame(i))
        if one.read_depth and other.read_depth:
            step = float(one.read_depth(i).max()) / 65535
            torch.testing.assert_close(one.read_depth(i), other.read_depth(i), atol=0.6 * step, rtol=0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_dataset_converts(name: str, truths: Truths, tmp_path: Path) -> None:
    stored = as_stored(name, truths(name))
    LAYOUTS[name].write(tmp_path / "raw", stored)
    reader = open_dataset(name, tmp_path / "raw")
    before = the_scene(reader)
    (result,) = convert(reader, [before.scene], tmp_path / "made")
    assert (result.written, result.left_out, result.error) == (5, 0, "")
    after = detect_dataset(tmp_path / "made")[0]
    assert (after.dataset, after.metric) == (name, before.metric)
    assert gap(after, stored) < 0.5
    assert (after.read_points is None) == (before.read_points is None)
    assert after.read_points is None or points_gap(after, stored) < 0.5
    assert frame_error(after, stored) == frame_error(before, stored)
    data = json.loads((tmp_path / "made" / folder_name(before.scene, reader.root) / "transforms.json").read_text())
    assert data["licence"] == reader.licence
    assert set(data["frames"][0]) >= {"w", "h", "fl_x", "fl_y", "cx", "cy", "file_path", "transform_matrix"}
    # Camera-to-world with OpenCV axes, as the published training reads it.
    np.testing.assert_array_equal(data["frames"][2]["transform_matrix"], after.cameras.T_world_camera[2].numpy())


def test_what_is_there_is_kept_and_what_is_unfinished_is_not(source: Reader, tmp_path: Path) -> None:
    made = tmp_path / "made"
    list(convert(source, source.scenes[:1], made))
    first = made / "a__plaza" / "transforms.json"
    written = first.stat().st_mtime_ns
    (made / ".b__plaza-0.partial" / "images").mkdir(parents=True)
    (made / ".b__plaza-0.partial" / "images" / "frame00099.png").write_bytes(b"half")
    (made / ".notes-mine").mkdir()
    results = list(convert(source, source.scenes, made))
    assert [r.there for r in results] == [True, False, False]
    assert first.stat().st_mtime_ns == written
    assert sorted(p.name for p in made.iterdir()) == [".notes-mine", "a__plaza", "b__plaza", "c__plaza"]
    assert not (made / "b__plaza" / "images" / "frame00099.png").exists()
    equal(open_dataset("standard", made)[1], source[1])


def test_many_processes_write_the_same(source: Reader, tmp_path: Path) -> None:
    for workers in (1, 2):
        list(convert(source, source.scenes, tmp_path / str(workers), workers=workers))
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*") if p.is_file()} for n in "12"
    )
    assert one == two


def test_options(source: Reader, tmp_path: Path) -> None:
    list(convert(source, source.scenes[:1], tmp_path / "made", image_format="jpg", with_depth=False))
    record = open_dataset("standard", tmp_path / "made")[0]
    assert record.read_depth is None
    assert {p.suffix for p in (tmp_path / "made" / "a__plaza" / "images").iterdir()} == {".jpg"}
    assert (record.read_frame(0).float() - source[0].read_frame(0).float()).abs().mean() < 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_broken_files_are_left_out_and_counted(source: Reader, tmp_path: Path) -> None:
    scene = source.root / "a" / "plaza"
    cut(scene / "images" / "frame00001.png")
    (scene / "depth" / "frame00003.png").unlink()
    (source.root / "b" / "plaza" / "transforms.json").write_text("")
    for number in range(1, 5):
        cut(source.root / "c" / "plaza" / "images" / f"frame{number:05d}.png")
    a, b, c = convert(source, source.scenes, tmp_path / "made", "png")
    assert (a.written, a.left_out, a.error) == (3, 2, "")
    assert "not whole JSON" in b.error
    assert "only 1 of 5 frames" in c.error
    (record,) = open_dataset("standard", tmp_path / "made")
    assert len(record) == 3
    right = open_dataset("standard", source.root).read("a/plaza")
    assert right.read_points is not None
    assert record.read_points is not None
    torch.testing.assert_close(record.read_points().points, right.read_points().points)
    assert torch.equal(record.read_frame(1), right.read_frame(2))
    torch.testing.assert_close(record.cameras.T_world_camera[2], right.cameras.T_world_camera[4])
    with pytest.raises(InputError, match=r"frame00001.png is damaged"):
        list(convert(source, source.scenes, tmp_path / "strict", "png", strict=True))
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("name", READERS)
def test_datasets_are_told_apart_by_their_layout(name: str, truths: Truths, tmp_path: Path) -> None:
    if name not in LAYOUTS:
        pytest.skip("has no layout of its own")
    LAYOUTS[name].write(tmp_path, truths(name))
    alike = {"acid": "re10k", "dl3dv": "nerfstudio", "mvimgnet": "colmap"}
    assert detect_dataset(tmp_path).name == alike.get(name, name)


def test_an_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name it with --dataset"):
        detect_dataset(tmp_path)
