"""Camera files of every format, whole and broken."""

import json
import math
import struct
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from PIL import Image

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import opengl_to_opencv
from gen3r.cameras.formats import read_cameras, write_cameras
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.models.presets import nano
from gen3r.request import Request
from tests.poses import colmap_pose, random_cameras, seeds

CAMERAS = random_cameras(11, 4, 90, 120)  # whose world is not the first one's frame


def one_lens() -> Cameras:
    return Cameras(CAMERAS.T_world_camera, CAMERAS.K_px[:1].repeat(4, 1, 1), 90, 120)


def assert_same(ours: Cameras, theirs: Cameras, tolerance: float = 1e-4) -> None:
    """What was read, and what was written, which reading brings into the first one's frame."""
    theirs = theirs.relative_to_first()
    torch.testing.assert_close(ours.T_world_camera, theirs.T_world_camera, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(ours.K_px, theirs.K_px, atol=1e-2, rtol=1e-4)
    assert (ours.height, ours.width) == (theirs.height, theirs.width)


def write_nerfstudio(path: Path) -> None:
    frames = [
        {
            "transform_matrix": opengl_to_opencv(T).tolist(),
            "fl_x": K[0, 0].item(), "fl_y": K[1, 1].item(), "cx": K[0, 2].item(), "cy": K[1, 2].item(),
        }
        for T, K in zip(CAMERAS.T_world_camera, CAMERAS.K_px, strict=True)
    ]  # fmt: skip
    path.write_text(json.dumps({"w": 120, "h": 90, "frames": frames}))


def colmap_rows() -> list[tuple[list[float], list[float]]]:
    q, t = colmap_pose(CAMERAS.T_world_camera.double())
    return [(a.tolist(), b.tolist()) for a, b in zip(q, t, strict=True)]


def write_colmap_text(folder: Path) -> None:
    K = CAMERAS.K_px[0].tolist()
    lens = f"7 PINHOLE 120 90 {K[0][0]} {K[1][1]} {K[0][2]} {K[1][2]}\n"
    (folder / "cameras.txt").write_text("# cameras\n" + lens)
    lines = ["# images"]
    for i, (q, t) in reversed(list(enumerate(colmap_rows()))):  # out of order: names decide
        lines += [f"{i + 1} {' '.join(map(str, q + t))} 7 frame {i}.png", "1.0 2.0 -1" if i % 2 else ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def write_colmap_binary(folder: Path) -> None:
    K = CAMERAS.K_px[0].double()
    lens = struct.pack("<QiiQQ4d", 1, 7, 1, 120, 90, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    (folder / "cameras.bin").write_bytes(lens)
    data = struct.pack("<Q", 4)
    for i, (q, t) in enumerate(colmap_rows()):
        data += struct.pack("<i7di", i, *q, *t, 7) + f"{i}.png".encode() + b"\0"
        data += struct.pack("<Q", i) + b"".join(struct.pack("<ddq", 1, 2, -1) for _ in range(i))
    (folder / "images.bin").write_bytes(data)


def write_realestate(path: Path) -> None:
    lines = ["https://example.com/video"]
    for i, (T, K) in enumerate(zip(torch.linalg.inv(CAMERAS.T_world_camera), CAMERAS.K_px, strict=True)):
        lens = [K[0, 0] / 120, K[1, 1] / 90, K[0, 2] / 120, K[1, 2] / 90]
        numbers = [f"{float(x):.9g}" for x in [*lens, 0, 0, *T[:3].flatten()]]
        lines.append(" ".join([str(1000 * i), *numbers]))
    path.write_text("\n".join(lines))


@given(seeds)
def test_our_json_is_exact(seed: int) -> None:
    cameras = random_cameras(seed).relative_to_first()
    with TemporaryDirectory() as folder:
        write_cameras(cameras, Path(folder) / "c.json")
        again = read_cameras(Path(folder) / "c.json")
    assert torch.equal(again.T_world_camera, cameras.T_world_camera)
    assert torch.equal(again.K_px, cameras.K_px)


def test_nerfstudio(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path / "transforms.json")
    assert_same(read_cameras(tmp_path / "transforms.json"), CAMERAS)


def test_nerfstudio_angle_and_distortion(tmp_path: Path) -> None:
    frame = {"transform_matrix": torch.eye(4).tolist()}
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"w": 120, "h": 90, "camera_angle_x": 1.0, "k1": 0.1, "frames": [frame]}))
    with pytest.warns(UserWarning, match="distortion"):
        cameras = read_cameras(path)
    assert cameras.K_px[0, 0, 0].item() == pytest.approx(60 / 0.5463024898)


class TestTransformsWithoutASize:
    """NeRF's files have an angle of view alone."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        frames = [{"file_path": f"./train/r_{i}", "transform_matrix": torch.eye(4).tolist()} for i in range(3)]
        (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.6911, "frames": frames}))
        return tmp_path / "transforms.json"

    @pytest.mark.parametrize("name", ["r_0.png", "r_1.jpg"])
    def test_the_images_tell_it(self, name: str, file: Path):
        (file.parent / "train").mkdir()
        Image.new("RGB", (80, 60)).save(file.parent / "train" / name)
        cameras = read_cameras(file, shape=(50, 50))
        assert (cameras.height, cameras.width) == (60, 80)
        assert cameras.K_px[0, 0, 0] == pytest.approx(40 / math.tan(0.6911 / 2))

    def test_the_request_stands_in(self, file: Path, tmp_path: Path):
        Image.new("RGB", (64, 48)).save(tmp_path / "photo.png")
        for inputs, size in (((tmp_path / "photo.png",), (48, 64)), ((), (112, 224))):
            job = Job(inputs=inputs, camera=str(file), size=(112, 224), request=Request(prompt="a room"))
            with pytest.warns(UserWarning, match="trained on clips"):
                cameras = job.resolve(nano().defaults).cameras
            assert (cameras.height, cameras.width) == size
            assert 2 * math.atan(cameras.width / 2 / cameras.K_px[0, 0, 0]) == pytest.approx(0.6911)

    @pytest.mark.parametrize("key", ["fl_x", "cx"])
    def test_pixels_need_it(self, key: str, file: Path):
        file.write_text(json.dumps({**json.loads(file.read_text()), key: 40}))
        with pytest.raises(InputError, match="frame 0 lacks w and h"):
            read_cameras(file, shape=(50, 50))
        assert read_cameras(file, (60, 80)).width == 80


@pytest.mark.parametrize("write", [write_colmap_text, write_colmap_binary])
def test_colmap(tmp_path: Path, write) -> None:
    place = tmp_path / "sparse" / "0"
    place.mkdir(parents=True)
    write(place)
    assert_same(read_cameras(tmp_path), one_lens())


def test_of_several_colmap_models_the_first_is_read(tmp_path: Path) -> None:
    for number in "01":
        (tmp_path / "sparse" / number).mkdir(parents=True)
    write_colmap_text(tmp_path / "sparse" / "0")
    with pytest.warns(UserWarning, match="sparse holds several models, whose worlds differ; 0 is read"):
        assert_same(read_cameras(tmp_path), one_lens())


@pytest.mark.parametrize("name", ["cameras.json", "transforms.json"])
def test_a_folder_with_a_file_of_cameras(tmp_path: Path, name: str) -> None:
    (write_nerfstudio if name == "transforms.json" else partial(write_cameras, CAMERAS))(tmp_path / name)
    assert_same(read_cameras(tmp_path), CAMERAS)
    (tmp_path / "sparse").mkdir()
    write_colmap_text(tmp_path / "sparse")
    assert_same(read_cameras(tmp_path), one_lens())  # the model of its images


def test_realestate(tmp_path: Path) -> None:
    write_realestate(tmp_path / "clip.txt")
    assert_same(read_cameras(tmp_path / "clip.txt", size=(90, 120)), CAMERAS)


def break_nerfstudio(path: Path, change) -> None:
    write_nerfstudio(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["frames"][2].pop("transform_matrix"), "frame 2 lacks"),
        (lambda d: d.pop("w"), "frame 0 lacks"),
        (lambda d: d.update(frames=[]), "empty"),
        (lambda d: d["frames"][1].update(w=50), r"frame 0 .* is \d+ x \d+, frame 1 .* 50 x"),
        (lambda d: d["frames"][1].update(transform_matrix=[[1, 2], [3, 4]]), "shape"),
        (lambda d: d["frames"][1]["transform_matrix"][0].__setitem__(3, float("nan")), "frame 1 is not finite"),
    ],
)
def test_broken_nerfstudio(tmp_path: Path, change, message: str) -> None:
    break_nerfstudio(tmp_path / "t.json", change)
    with pytest.raises(InputError, match=message):
        read_cameras(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b'{"frames": [', "not whole JSON"),
        (b'{"a": 1}', "holds no cameras"),
        (b"\xff\xfe\x00", "no text"),
        (b"url\n1 2 3\n", "no camera file that is read here"),
        (b"url\n" + 19 * b"1 " + b"\n1 2 3\n", "line 3 has 3 numbers"),
        (b"url\n", "no camera"),
        (b"1 " + b"x " * 18, "line 1"),
        (b"1 0.5 0.5 0.5 0.5 0 0 " + b"0 " * 12, "frame 0 .1. has no rotation"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cameras"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_cameras(path)


def test_missing_and_truncated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no camera file"):
        read_cameras(tmp_path / "none.json")
    with pytest.raises(InputError, match="no COLMAP model"):
        read_cameras(tmp_path)
    write_colmap_binary(tmp_path)
    data = (tmp_path / "images.bin").read_bytes()
    (tmp_path / "images.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_cameras(tmp_path)


def test_unsupported_colmap_lens(tmp_path: Path) -> None:
    write_colmap_text(tmp_path)
    (tmp_path / "cameras.txt").write_text("7 PERIODIC 120 90 1 2 3 4\n")
    with pytest.raises(InputError, match="PERIODIC is not supported"):
        read_cameras(tmp_path)
