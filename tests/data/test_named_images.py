"""Images as camera files name them: in folders, from other systems, missing, twice, of other sizes and shapes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import write_cameras
from gen3r.cameras.lens import Lens
from gen3r.data.check.inspection import inspect_dataset
from gen3r.data.readers import open_dataset
from gen3r.data.records import ClipRecord
from gen3r.data.standard import convert
from gen3r.errors import InputError
from tests.poses import random_cameras

SIZE = (48, 64)


def picture(path: Path, grey: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(path)


def transforms(folder: Path, names: list[str], **values: Any) -> None:
    """A scene whose frame i stands at x = i."""
    frames = [
        {"file_path": name, "transform_matrix": [[1, 0, 0, i], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}
        for i, name in enumerate(names)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    data = {"w": 64, "h": 48, "fl_x": 60, **values, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))


def colmap(folder: Path, names: list[str], camera: str = "PINHOLE 64 48 60 60 32 24") -> None:
    (folder / "sparse").mkdir(parents=True)
    (folder / "sparse" / "cameras.txt").write_text(f"1 {camera}\n")
    lines = [f"{i} 1 0 0 0 {-i} 0 0 1 {name}\n\n" for i, name in enumerate(names)]
    (folder / "sparse" / "images.txt").write_text("".join(lines))


def seen(record: ClipRecord) -> list[tuple[int, float]]:
    """The grey of each frame and where it stands, relative to the first."""
    centres = record.cameras.centres[:, 0].tolist()
    return [(int(record.read_frame(i)[5, 5, 0]), round(x, 4)) for i, x in enumerate(centres)]


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("left/1.png right/1.png", "left/1.png right/1.png"),
        ("1.png right/1.png", "1.png right/1.png"),
        ("left/1.png right/1.png", "left\\1.png right\\1.png"),
        ("1.png 2.png", "/home/someone/scene/1.png /home/someone/scene/2.png"),
        ("a/1.png a/2.png", "C:\\scene\\a\\1.png C:\\scene\\a\\2.png"),
        ("1.png 2.png", "./1 ./2"),
        ("view.0001.jpg view.0002.jpg", "view.0001 view.0002"),
        ("1.JPG 2.JPG", "1.JPG 2.JPG"),
    ],
)
@pytest.mark.parametrize("kind", ["nerfstudio", "colmap"])
def test_names_of_other_systems_and_folders(tmp_path: Path, kind: str, stored: str, named: str) -> None:
    for grey, name in zip((50, 100), stored.split(), strict=True):
        picture(tmp_path / "images" / name, grey)
    if kind == "colmap":
        colmap(tmp_path, named.split())
    else:
        prefix = "" if named.startswith(("/", "C:")) else "images/"
        transforms(tmp_path, [prefix + name for name in named.split()])
    found = seen(open_dataset(kind, tmp_path)[0])
    assert [(grey // 10, x) for grey, x in found] == [(5, 0), (10, 1)]


@pytest.mark.parametrize("missing", [(0,), (2,), (4,), (0, 1, 3)])
@pytest.mark.parametrize("kind", ["nerfstudio", "standard", "dl3dv", "colmap", "re10k"])
def test_missing_images_are_counted_whichever_they_are(tmp_path: Path, kind: str, missing: tuple[int, ...]) -> None:
    names = [f"images/{i}.png" for i in range(5)]
    folder = tmp_path / "scene"
    if kind == "colmap":
        colmap(folder, [f"{i}.png" for i in range(5)])
    elif kind == "re10k":
        folder, names = tmp_path / "train", [f"clip/{i}.png" for i in range(5)]
        lines = [f"{i} 0.9 1.2 0.5 0.5 0 0 1 0 0 {-i} 0 1 0 0 0 0 1 0" for i in range(5)]
        folder.mkdir()
        (folder / "clip.txt").write_text("\n".join(lines))
    else:
        transforms(folder, names)
    there = [i for i in range(5) if i not in missing]
    for i in there:
        picture(folder / names[i], 40 * i)
    reader = open_dataset(kind, tmp_path)
    with pytest.warns(UserWarning, match=f"lacks {len(missing)} of 5 images, such as"):
        record = reader[0]
    assert seen(record) == [(40 * i, i - there[0]) for i in there]
    assert record.left_out == len(missing)
    with pytest.raises(InputError, match="download them again"):
        open_dataset(kind, tmp_path, strict=True)[0]
    with pytest.warns(UserWarning, match="left out"):
        [made] = convert(reader, reader.scenes, tmp_path / "made")
    assert (made.written, made.left_out) == (len(there), len(missing))
    with pytest.warns(UserWarning, match="left out"):
        [report] = inspect_dataset(reader, reader.scenes)
    assert any(f"{len(missing)} images of the camera file are missing" in problem for problem in report.problems)


def test_an_image_that_is_not_there_is_no_other_one(tmp_path: Path) -> None:
    """The left camera's picture is not the right one's of the same name."""
    picture(tmp_path / "images" / "1.png", 50)
    colmap(tmp_path, ["1.png", "right/1.png"])
    with pytest.warns(UserWarning, match="lacks 1 of 2 images, such as right/1.png"):
        assert seen(open_dataset("colmap", tmp_path)[0]) == [(50, 0)]
    for name in ("left", "right"):  # of two that both might be it, neither is
        transforms(tmp_path / name, ["left/1.png", "right/1.png"])
    picture(tmp_path / "left" / "1.png", 50)
    with pytest.raises(InputError, match="lacks 2 of 2"):
        open_dataset("nerfstudio", tmp_path / "left")[0]


def test_an_image_that_is_named_twice(tmp_path: Path) -> None:
    """Once with the same camera, refused with another."""
    picture(tmp_path / "0.png", 50)
    picture(tmp_path / "1.png", 90)
    transforms(tmp_path, ["0.png", "1.png", "./1.png"])
    with pytest.raises(InputError, match=r"two different cameras for 1\.png"):
        open_dataset("nerfstudio", tmp_path)[0]
    data = json.loads((tmp_path / "transforms.json").read_text())
    data["frames"][2]["transform_matrix"] = data["frames"][1]["transform_matrix"]
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    record = open_dataset("nerfstudio", tmp_path)[0]
    assert (seen(record), record.left_out) == ([(50, 0), (90, 1)], 1)


@pytest.mark.parametrize("kind", ["nerfstudio", "colmap"])
def test_shrunk_images_take_their_part_of_the_lens(tmp_path: Path, kind: str) -> None:
    """In images_4, with sides rounded down, distorted; images of another shape are refused, and turned ones said."""
    size, names = (151, 203), ["1.png", "2.png"]
    for name in names:
        picture(tmp_path / "images_4" / name, 50, (37, 50))
    if kind == "colmap":
        colmap(tmp_path, names, f"SIMPLE_RADIAL {size[1]} {size[0]} 200 101.5 75.5 0.1")
    else:
        lens = {"w": size[1], "h": size[0], "fl_x": 200, "fl_y": 200, "cx": 101.5, "cy": 75.5, "k1": 0.1}
        transforms(tmp_path, [f"images/{name}" for name in names], **lens)
    cameras = open_dataset(kind, tmp_path)[0].cameras
    assert (cameras.height, cameras.width) == (37, 50)
    wanted = torch.tensor([[200 * 50 / 203, 0, 25], [0, 200 * 37 / 151, 18.5], [0, 0, 1]])
    torch.testing.assert_close(cameras.K_px[1], wanted)
    for shape, message in (((37, 37), "the images are 37 x 37"), ((203, 151), "the images were turned")):
        for name in names:
            picture(tmp_path / "images_4" / name, 50, shape)
        with pytest.raises(InputError, match=message):
            open_dataset(kind, tmp_path)[0]


def grid() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["OPENCV", "OPENCV_FISHEYE"])
def test_every_frame_is_straightened_by_its_own_lens(tmp_path: Path, kind: str) -> None:
    """Its own coefficients, the scene's with its own focal length, or none."""
    own = [{"k1": 0.2}, {"fl_x": 80, "fl_y": 80}, {"k1": 0, "k2": 0}]
    transforms(tmp_path, ["0.png", "1.png", "2.png"], k1=0.1, k2=0.05, camera_model=kind)
    data = json.loads((tmp_path / "transforms.json").read_text())
    for frame, values in zip(data["frames"], own, strict=True):
        frame.update(values)
        Image.fromarray(grid()).save(tmp_path / frame["file_path"])
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    record = open_dataset("nerfstudio", tmp_path)[0]
    family = "fisheye" if kind == "OPENCV_FISHEYE" else "perspective"
    for number, (focal, k1, k2) in enumerate(((60, 0.2, 0.05), (80, 0.1, 0.05), (60, 0, 0))):
        lens = Lens(SIZE, (focal, focal, 32, 24), (("k1", k1), ("k2", k2)), family)
        wanted = lens.undistort(torch.from_numpy(grid()))
        assert torch.equal(record.read_frame(number), wanted)
        assert torch.equal(wanted, torch.from_numpy(grid())) == (kind == "OPENCV" and number == 2)


@pytest.mark.parametrize("published", [False, True], ids=["ours", "published"])
def test_cameras_of_a_crop_beside_the_whole_photos(tmp_path: Path, published: bool) -> None:
    """What reconstruct or the published Gen3R writes, in the folder of the photos that it was made of."""
    whole = random_cameras(7, 3, 90, 160).relative_to_first()
    for i in range(3):
        picture(tmp_path / f"{i}.png", 50, (90, 160))
    side = 560 if published else 112
    write_cameras(whole.resize_and_crop(side, side), tmp_path / "cameras.json")
    if published:
        cropped = whole.resize_and_crop(side, side)
        data = {"extrinsics": torch.linalg.inv(whole.T_world_camera.double()).tolist(),
                "intrinsics": cropped.K_px.tolist()}  # fmt: skip
        (tmp_path / "cameras.json").write_text(json.dumps(data))
    cameras: Cameras = open_dataset("videos", tmp_path)[0].cameras
    assert (cameras.height, cameras.width) == (90, 160)
    torch.testing.assert_close(cameras.K_px, whole.K_px, atol=1e-2, rtol=1e-5)


def test_other_cameras_of_another_shape_beside_photos_are_refused(tmp_path: Path) -> None:
    for i in range(2):
        picture(tmp_path / f"{i}.png", 50, (90, 160))
    transforms(tmp_path, ["0.png", "1.png"])
    (tmp_path / "transforms.json").rename(tmp_path / "cameras.json")
    with pytest.raises(InputError, match="cameras are for images of 64 x 48, and the images are 160 x 90"):
        open_dataset("videos", tmp_path)[0]


def test_depth_is_straightened_with_its_frame(tmp_path: Path) -> None:
    """Also where it is smaller than the frame."""
    transforms(tmp_path, ["0.png", "1.png"], k1=0.2)
    data = json.loads((tmp_path / "transforms.json").read_text())
    ramp = np.tile(np.arange(32, dtype=np.uint16) * 100 + 1000, (24, 1))
    for frame in data["frames"]:
        picture(tmp_path / frame["file_path"], 50)
        frame["depth_file_path"] = f"depth\\{frame['file_path']}"
        path = tmp_path / "depth" / frame["file_path"]
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(ramp).save(path)
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    read_depth = open_dataset("nerfstudio", tmp_path)[0].read_depth
    assert read_depth is not None
    row = read_depth(0)[12].numpy()
    x = (np.arange(32) + 0.5 - 16) / 30
    wanted = np.floor(x * (1 + 0.2 * x**2) * 30 + 16)  # the column that a pixel of the middle row falls into
    known = (wanted >= 0) & (wanted < 32)
    assert np.abs(row[known] - (wanted[known] * 0.1 + 1)).max() < 0.11
    assert (row[~known] == 0).all()


@pytest.mark.parametrize(("kind", "upright"), [("nerfstudio", True), ("nerfstudio", False), ("colmap", False)])
def test_images_are_turned_only_where_their_cameras_are(tmp_path: Path, kind: str, upright: bool) -> None:
    """A telephone's photo, stored on its side, with a lens for how it is shown or for how it is stored."""
    exif = Image.Exif()
    exif[274] = 6
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(tmp_path / "images" / name, exif=exif)
    if kind == "colmap":
        colmap(tmp_path, ["1.jpg", "2.jpg"])
    else:
        transforms(tmp_path, ["images/1.jpg", "images/2.jpg"], **({"w": 48, "h": 64} if upright else {}))
    record = open_dataset(kind, tmp_path)[0]
    wanted = SIZE[::-1] if upright else SIZE
    assert (record.cameras.height, record.cameras.width) == tuple(record.read_frame(0).shape[:2]) == wanted
