"""What people's camera files hold: every way to write a lens, any order and world, and what cannot be a camera."""

import json
import math
import os
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import read_cameras, read_posed_images, write_cameras
from gen3r.cameras.formats.gen3r import cameras_to_json
from gen3r.errors import InputError
from gen3r.media.order import natural_order
from tests.poses import colmap_pose, random_cameras, random_poses, seeds

EYE = torch.eye(4).tolist()
LENS = {"w": 640, "h": 480, "fl_x": 500}


def saved(folder: Path, data: Any) -> Path:
    path = folder / "cameras.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def at(x: float, name: str = "", **values: Any) -> dict[str, Any]:
    """A frame that stands at x."""
    frame = {"transform_matrix": [[1, 0, 0, x], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], **values}
    return {**frame, "file_path": name} if name else frame


@pytest.mark.parametrize(
    "lens",
    [
        {"fl_x": 500, "fl_y": 500},
        {"fl_x": "500"},
        {"fl_y": 500},
        {"camera_angle_x": 2 * math.atan(0.64)},
        {"camera_angle_y": 2 * math.atan(0.48)},
        {"camera_angle_x": 2 * math.atan(0.64), "camera_angle_y": 2 * math.atan(0.48)},
        {"x_fov": math.degrees(2 * math.atan(0.64))},
        {"y_fov": math.degrees(2 * math.atan(0.48)), "x_fov": math.degrees(2 * math.atan(0.64))},
    ],
)
def test_every_way_to_write_an_angle_of_view(tmp_path: Path, lens: dict) -> None:
    size = {"w": 640, "h": 480}
    for data in ({**size, **lens, "frames": [at(0)]}, {"frames": [at(0, **size, **lens)]},
                 {**size, "fl_x": 90, "camera_angle_y": 0.1, "frames": [at(0, **lens)]}):  # fmt: skip
        K = read_cameras(saved(tmp_path, data)).K_px[0]
        wanted = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
        if "fl_x" in data and not {"fl_y", "camera_angle_y", "y_fov"} & lens.keys():
            wanted[1, 1] = K[1, 1]  # the frame says nothing about the other axis, but the scene does
        if "fl_x" in data and not {"fl_x", "camera_angle_x", "x_fov"} & lens.keys():
            wanted[0, 0] = 90
        torch.testing.assert_close(K, wanted)


def test_frames_are_in_the_natural_order_of_their_names(tmp_path: Path) -> None:
    names = ["b/2.png", "a/frame10.png", "a\\frame9.png", "a/frame2.png", "b/1.png"]
    data = {**LENS, "frames": [at(i, name) for i, name in enumerate(names)]}
    images = read_posed_images(saved(tmp_path, data))
    assert [names.index(name) for name in images.names] == [3, 2, 1, 4, 0]
    np.testing.assert_array_equal(images.T_world_camera[:, 0, 3], [3, 2, 1, 4, 0])
    unnamed = [at(5), at(3), at(4, "a.png")]
    assert read_cameras(saved(tmp_path, {**LENS, "frames": unnamed})).centres[:, 0].tolist() == [0, -2, -1]
    lines = [f"{t} 1 1 0.5 0.5 0 0 1 0 0 {-t} 0 1 0 0 0 0 1 0" for t in (30, 9, 100)]
    assert read_cameras(saved(tmp_path, "\n".join(lines))).centres[:, 0].tolist() == [0, 21, 91]


@given(st.lists(st.integers(0, 10**30), min_size=2, unique=True))
def test_natural_order_is_that_of_numbers(numbers: list[int]) -> None:
    """Of any length, with and without leading zeros, between equal words."""
    names = [f"a/frame{n:0{1 + n % 9}}_left.png" for n in numbers]
    assert sorted(names, key=natural_order) == [name for _, name in sorted(zip(numbers, names, strict=True))]
    assert natural_order("9" * 5000) < natural_order("1" + "0" * 5000)


def test_worlds_far_from_their_origin_lose_nothing(tmp_path: Path) -> None:
    """Centimetres in UTM coordinates and thousandths in geocentric ones, in all formats."""
    steps = np.arange(4) * 0.01
    frames = [at(500_000 + x) for x in steps]
    assert_steps(read_cameras(saved(tmp_path, {**LENS, "frames": frames})), steps)
    own = cameras_to_json(random_cameras(0, 4))
    for frame, x in zip(own["frames"], steps, strict=True):
        frame["T_world_camera"] = at(6e6 + x)["transform_matrix"]
    assert_steps(read_cameras(saved(tmp_path, own)), steps)
    lines = [f"{i} 1 1 0.5 0.5 0 0 1 0 0 {-4e6 - x!r} 0 1 0 0 0 0 1 0" for i, x in enumerate(steps.tolist())]
    assert_steps(read_cameras(saved(tmp_path, "\n".join(lines))), steps)
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    lines = [f"{i} 1 0 0 0 {-500_000 - x!r} 0 0 1 {i}.png\n\n" for i, x in enumerate(steps.tolist())]
    (tmp_path / "images.txt").write_text("".join(lines))
    assert_steps(read_cameras(tmp_path), steps)


def assert_steps(cameras: Cameras, steps: np.ndarray) -> None:
    np.testing.assert_allclose(cameras.centres[:, 0].numpy(), steps, atol=1e-6)


@pytest.mark.parametrize("one", [False, True], ids=["each", "one for all"])
def test_the_published_camera_file(tmp_path: Path, one: bool) -> None:
    """World-to-camera, in pixels of 560 x 560."""
    cameras = random_cameras(4, 3, 560, 560)
    K = cameras.K_px[:1].expand(3, 3, 3)
    data = {"extrinsics": torch.linalg.inv(cameras.T_world_camera.double()).tolist(), "intrinsics": K.tolist()}
    read = read_cameras(saved(tmp_path, {**data, "intrinsics": K[0].tolist()} if one else data))
    assert (read.height, read.width) == (560, 560)
    torch.testing.assert_close(read.K_px, K)
    torch.testing.assert_close(read.T_world_camera, cameras.relative_to_first().T_world_camera, atol=1e-5, rtol=1e-5)


def test_the_path_of_nerfstudios_viewer(tmp_path: Path) -> None:
    """Rows one after another, OpenGL axes, a vertical angle in degrees, which may change."""
    poses = random_poses(5, 3)
    gl = poses * torch.tensor([1.0, -1, -1, 1])
    path = [
        {"camera_to_world": T.flatten().tolist(), "fov": fov, "aspect": 2}
        for T, fov in zip(gl, (50, 60, 90), strict=True)
    ]
    data = {"camera_type": "perspective", "render_height": 200, "render_width": 400, "camera_path": path, "fps": 24}
    cameras = read_cameras(saved(tmp_path, data))
    torch.testing.assert_close(torch.rad2deg(cameras.fov_y), torch.tensor([50.0, 60, 90]))
    assert cameras.K_px[0, 0, 2] == 200
    wanted = torch.linalg.inv(poses[:1]) @ poses
    torch.testing.assert_close(cameras.T_world_camera.double(), wanted, atol=1e-5, rtol=1e-5)
    for change, message in (
        ({"camera_type": "equirectangular"}, "camera type equirectangular is not supported"),
        ({"render_width": float("nan")}, "render_width that is not finite"),
        ({"camera_path": []}, "holds no camera"),
        ({"camera_path": [{**path[0], "fov": 200}]}, "fov of 200 degrees"),
        ({"camera_path": [path[0], {"fov": 50}]}, "frame 1 lacks camera_to_world"),
    ):
        with pytest.raises(InputError, match=message):
            read_cameras(saved(tmp_path, {**data, **change}))


POSES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "zeros": (lambda T: T * 0, "last row"),
    "a rotation of zeros": (lambda T: T * np.array([[0.0] * 3 + [1]] * 3 + [[1] * 4]), "no rotation"),
    "twice as large": (lambda T: T * np.array([[2.0] * 3 + [1]] * 3 + [[1] * 4]), "no rotation"),
    "skewed": (lambda T: T + np.eye(4, k=1) * np.array([[0.1], [0], [0], [0]]), "no rotation"),
    "transposed": (lambda T: T.T, "transposed"),
    "left-handed": (lambda T: T * np.array([[-1.0, 1, 1, 1]] * 4), "left-handed"),
    "a hole": (lambda T: np.where(np.eye(4, k=2), np.nan, T), "not finite"),
    "endless": (lambda T: np.where(np.eye(4, k=3), np.inf, T), "not finite"),
}


@pytest.mark.parametrize("every", [False, True], ids=["one frame", "all frames"])
@pytest.mark.parametrize("broken", POSES)
@pytest.mark.parametrize("name", ["nerfstudio", "gen3r", "published", "camera_path"])
def test_what_is_no_pose_is_refused_by_its_frame(tmp_path: Path, name: str, broken: str, every: bool) -> None:
    """Also where all are wrong alike, so that they would be right relative to the first."""
    change, message = POSES[broken]
    poses = random_poses(2, 3).numpy()
    poses[:, :3, 3] += 1
    bad = [change(T).tolist() if every or i == 2 else T.tolist() for i, T in enumerate(poses)]
    K = [[500, 0, 320], [0, 500, 240], [0, 0, 1]]
    own = {"format": "gen3r-cameras", "height": 480, "width": 640}
    data = {
        "nerfstudio": {**LENS, "frames": [{"transform_matrix": T} for T in bad]},
        "gen3r": {**own, "frames": [{"T_world_camera": T, "K_px": K} for T in bad]},
        "published": {"extrinsics": bad, "intrinsics": K},
        "camera_path": {"render_height": 480, "render_width": 640,
                        "camera_path": [{"camera_to_world": np.ravel(T).tolist(), "fov": 50} for T in bad]},
    }[name]  # fmt: skip
    with pytest.raises(InputError, match=rf"pose of frame {0 if every else 2} .*{message}"):
        read_cameras(saved(tmp_path, data))


def test_quaternions_that_are_no_rotation(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    for quaternion, message in (("0 0 0 0", "3.png has no rotation"), ("nan 0 0 1", "3.png has no rotation"),
                                ("inf 0 0 1", "frame 1 .3.png. is not finite")):  # fmt: skip
        (tmp_path / "images.txt").write_text(f"1 1 0 0 0 0 0 0 1 2.png\n\n2 {quaternion} 0 0 0 1 3.png\n\n")
        with pytest.raises(InputError, match=message):
            read_cameras(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fl_x": 0.8}, "focal lengths of 0.8 .* pixels of an image of 640 x 480"),
        ({"fl_x": 0}, "focal length that is not positive"),
        ({"fl_x": -500}, "focal length that is not positive"),
        ({"fl_x": 1e9}, "focal lengths"),
        ({"fl_x": None, "camera_angle_x": 50}, "radians, not degrees"),
        ({"fl_x": None, "camera_angle_x": -1}, "camera_angle_x of -1"),
        ({"fl_x": None, "x_fov": 190}, "x_fov of 190"),
        ({"cx": 0.5, "cy": 0.5}, "principal point at 0.5, 0.5"),
        ({"cx": 3000}, "principal point at 3000"),
        ({"k1": float("nan")}, "k1 that is not finite"),
        ({"k1": "much"}, "k1 that is no number"),
        ({"w": float("inf")}, "w that is not finite"),
        ({"w": 10**400}, "w that is no number"),
        ({"w": 0}, "image size of 0 x 480"),
        ({"h": -480}, "image size of 640 x -480"),
        ({"w": 1e12}, "image size"),
        ({"frames": [None]}, "frame 0 lacks transform_matrix"),
        ({"frames": [at(0), [EYE]]}, "frame 1 lacks transform_matrix"),
        ({"frames": [{"transform_matrix": [[1, 2], [3]]}]}, "no matrix of numbers"),
        ({"frames": [{"transform_matrix": "eye"}]}, "no matrix of numbers"),
        ({"frames": {}}, "holds no cameras"),
    ],
)
def test_what_is_no_lens_or_frame(tmp_path: Path, change: dict, message: str) -> None:
    data = {k: v for k, v in {**LENS, "frames": [at(0), at(1)], **change}.items() if v is not None}
    with pytest.raises(InputError, match=message) as caught:
        read_cameras(saved(tmp_path, data))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.update(height=float("inf")), "height that is not finite"),
        (lambda d: d.update(frames=3), "lacks frames"),
        (lambda d: d["frames"].append(None), "frame 2 lacks"),
        (lambda d: d["frames"][1].update(K_px=np.array(d["frames"][1]["K_px"]).T.tolist()), "transposed"),
        (lambda d: d["frames"][1]["K_px"][0].__setitem__(1, 3.0), "skew"),
        (lambda d: d["frames"][1].update(K_px=[1, 2]), "intrinsics of shape"),
    ],
)
def test_our_file_misstated(tmp_path: Path, change: Callable, message: str) -> None:
    data = cameras_to_json(random_cameras(1, 2))
    change(data)
    with pytest.raises(InputError, match=message):
        read_cameras(saved(tmp_path, data))


def test_realestate_in_pixels_is_said(tmp_path: Path) -> None:
    line = "0 500 500 320 240 0 0 1 0 0 0 0 1 0 0 0 0 1 0"
    with pytest.raises(InputError, match="no fractions of the image's size"):
        read_cameras(saved(tmp_path, line))


def test_files_that_are_no_text_of_a_sane_length(tmp_path: Path) -> None:
    """A mark before the text is none of it; pipes, holes, depths and long numbers end at once."""
    data = json.dumps({**LENS, "frames": [at(0)]})
    assert len(read_cameras(saved(tmp_path, "\ufeff" + data))) == 1
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe"):
        read_cameras(tmp_path / "pipe")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(InputError, match="20480 MB"):
        read_cameras(tmp_path / "hole")
    for text in ("[" * 200_000, '{"frames": ' * 100_000, "[" + "9" * 10_000 + "]"):
        with pytest.raises(InputError, match=r"no usable JSON|not whole JSON"):
            read_cameras(saved(tmp_path, text))
    with pytest.raises(InputError, match="cannot be read"):
        read_cameras(tmp_path / ("x" * 300))


def test_colmap_text_without_the_lines_of_points(tmp_path: Path) -> None:
    """With them, without them, with empty ones: the same four images, also those whose names look like numbers."""
    (tmp_path / "cameras.txt").write_text("1 SIMPLE_PINHOLE 640 480 500 320 240\n")
    rows = [f"{i} 1 0 0 0 {-i} 0 0 1 {name}" for i, name in enumerate(("1", "2.png", "view 3 0 0.png", "4"))]
    for between in ("\n10.5 20.5 -1 3 4 17\n", "\n\n", "\n", "\n0 0 -1\n"):
        (tmp_path / "images.txt").write_text("# a comment\n" + between.join(rows) + between)
        assert read_posed_images(tmp_path).names == ("1", "2.png", "4", "view 3 0 0.png")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """As COLMAP writes them on systems with another encoding."""
    (tmp_path / "cameras.txt").write_text("1 SIMPLE_PINHOLE 640 480 500 320 240\n")
    (tmp_path / "images.txt").write_bytes(b"1 1 0 0 0 0 0 0 1 caf\xe9.png\n")
    assert os.fsencode(read_posed_images(tmp_path).names[0]) == b"caf\xe9.png"
    camera = struct.pack("<QiiQQ3d", 1, 1, 0, 640, 480, 500, 320, 240)
    (tmp_path / "cameras.bin").write_bytes(camera)
    image = struct.pack("<Qi7di", 1, 1, 1, *6 * [0], 1) + b"caf\xe9.png\0" + bytes(8)
    (tmp_path / "images.bin").write_bytes(image)
    assert os.fsencode(read_posed_images(tmp_path).names[0]) == b"caf\xe9.png"


@pytest.mark.parametrize("more", [{"cx": None, "k1": None}, {"camera_model": None}, {"camera_model": "opencv"}])
def test_values_that_are_null_are_missing(tmp_path: Path, more: dict) -> None:
    data = {"w": 640, "h": 480, "fl_x": 500, **more, "frames": [at(0, fl_x=None)]}
    assert read_cameras(saved(tmp_path, data)).K_px[0, 0].tolist() == [500, 0, 320]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<?xml version="1.0"?>\n<document>\n</document>\n', "no camera file that is read here"),
        (8 * "0 " + "\n", "no camera file that is read here"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_files_are_refused_as_what_they_are(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_cameras(saved(tmp_path, text))


def test_a_colmap_camera_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("1 SIMPLE_PINHOLE 640 480 500 320 240\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 2 a.png\n")
    with pytest.raises(InputError, match=r"a.png has camera 2"):
        read_cameras(tmp_path)
    (tmp_path / "cameras.txt").write_text("2 SIMPLE_PINHOLE 4611686018427387904 480 500 320 240\n")
    with pytest.raises(InputError, match="image size"):
        read_cameras(tmp_path)


@given(seeds)
def test_a_crop_is_undone(seed: int) -> None:
    """Cameras of a square crop, for the whole images: as they were, to the crop's whole pixels."""
    whole = random_cameras(seed, 2, 480, 640).relative_to_first()
    side = 112 + seed % 400
    images = _roundtrip(whole.resize_and_crop(side, side))
    torch.testing.assert_close(
        torch.from_numpy(images.at((480, 640)).intrinsics).float(),
        torch.stack([whole.K_px[:, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))], -1), atol=1e-2, rtol=1e-5,
    )  # fmt: skip


def _roundtrip(cameras: Cameras):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write_cameras(cameras, Path(folder) / "c.json")
        return read_posed_images(Path(folder) / "c.json")


def damaged_files(folder: Path) -> dict[str, bytes]:
    """A whole file of every format."""
    cameras = random_cameras(3, 3, 480, 640)
    T, K = cameras.T_world_camera.double(), cameras.K_px[0].tolist()
    frames = [{"file_path": f"{i}.png", "transform_matrix": t.tolist(), "k1": 0.1} for i, t in enumerate(T)]
    path = [{"camera_to_world": t.flatten().tolist(), "fov": 50.0} for t in T]
    write_cameras(cameras, folder / "own.json")
    lines = [f"{i} 0.9 1.2 0.5 0.5 0 0 {' '.join(map(str, t[:3].flatten().tolist()))}" for i, t in enumerate(T)]
    images = struct.pack("<Q", 3)
    for i, (q, t) in enumerate(zip(*colmap_pose(T), strict=True)):
        images += struct.pack("<i7di", i, *q, *t, 7) + f"{i}.png\0".encode() + struct.pack("<Qddq", 1, 2, 3, -1)
    return {
        "own.json": (folder / "own.json").read_bytes(),
        "transforms.json": json.dumps({**LENS, "camera_model": "OPENCV", "frames": frames}).encode(),
        "camera_path.json": json.dumps({"render_height": 9, "render_width": 16, "camera_path": path}).encode(),
        "published.json": json.dumps({"extrinsics": T.tolist(), "intrinsics": K}).encode(),
        "clip.txt": "\n".join(["https://x", *lines]).encode(),
        "images.bin": images,
        "cameras.bin": struct.pack("<QiiQQ8d", 1, 7, 4, 640, 480, 500, 500, 320, 240, 0.1, 0, 0, 0),
    }


ODD = ("NaN", "-1", "1e999", "null", "[]", '"x"', "{}", "0", "9" * 400, "true", "[[[]]]", "", "-", "\\", "\0", "é")


def damage(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut, doubled, or a number or word replaced by something odd."""
    way = rng.randrange(4)
    if way == 0:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    if way == 1:
        return data[:start] + data[end:]
    if way == 2:
        return data[:end] + data[start:]
    numbers = [i for i, byte in enumerate(data[:-1]) if byte in b" [:," and data[i + 1] not in b" [:,"]
    at_byte = rng.choice(numbers or [0]) + 1
    stop = next((i for i in range(at_byte, len(data)) if data[i] in b" ]},\n"), len(data))
    return data[:at_byte] + rng.choice(ODD).encode() + data[stop:]


@pytest.mark.parametrize("count", [8, pytest.param(72, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", ["own.json", "transforms.json", "camera_path.json", "published.json", "clip.txt",
                                  "images.bin", "cameras.bin"])  # fmt: skip
def test_damaged_files_give_cameras_or_one_line(tmp_path: Path, name: str, count: int) -> None:
    rng = random.Random(f"{name} {count}")
    whole = damaged_files(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    for file in ("images.bin", "cameras.bin"):
        (model / file).write_bytes(whole[file])
    target = (model if name.endswith("bin") else tmp_path) / name
    messages = []
    for _ in range(count):
        target.write_bytes(damage(whole[name], rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cameras = read_cameras(model if name.endswith("bin") else target)
        except InputError as error:
            messages.append(str(error))
        else:
            assert cameras.T_world_camera.isfinite().all()
            assert cameras.K_px.isfinite().all()
    assert [message for message in messages if len(message.splitlines()) != 1] == []
