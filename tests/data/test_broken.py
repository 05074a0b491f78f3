"""Files as they come out of an interrupted download, in every dataset: one line of error, skipped or stopped at."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gen3r.data.clips import ClipSampler, load_clip
from gen3r.data.readers import open_dataset
from gen3r.data.sampled_clips import SampledClips
from gen3r.errors import InputError
from tests.data.layouts import LAYOUTS, Truths
from tests.data.test_readers import the_scene

# Where each dataset keeps its cameras, and its lenses where they are apart.
CAMERAS = {
    "re10k": ["*/*.txt"], "acid": ["*/*.txt"], "dl3dv": ["*/*/transforms.json"], "tartanair": ["*/*/*/pose_left.txt"],
    "kitti360": ["data_poses/*/cam0_to_world.txt", "calibration/perspective.txt", "calibration/calib_cam_to_velo.txt",
                 "data_3d_bboxes/*/*.xml"],
    "waymo": ["*/camera_calibration/*.parquet", "*/camera_image/*.parquet", "*/lidar_calibration/*.parquet",
              "*/vehicle_pose/*.parquet"],
    "co3d": ["*/frame_annotations.jgz", "*/*/pointcloud.ply"],
    "mvimgnet": ["*/*/sparse/0/images.bin", "*/*/sparse/0/cameras.bin", "*/*/sparse/0/points3D.bin"],
    "vkitti2": ["*/*/extrinsic.txt", "*/*/intrinsic.txt"],
    "wildrgbd": ["*/*/scenes_001/cam_poses.txt", "*/*/*/metadata", "*/types.json"],
    "standard": ["*/transforms.json", "*/points.ply"], "nerfstudio": ["transforms.json", "sparse_pc.ply"],
    "colmap": ["*/sparse/0/images.txt", "*/sparse/0/cameras.txt"],
}  # fmt: skip
PICTURES = {
    "re10k": "*/*/*.png", "acid": "*/*/*.png", "dl3dv": "*/*/images_8/*", "tartanair": "*/*/*/image_left/*",
    "kitti360": "data_2d_raw/*/image_00/data_rect/*", "co3d": "*/*/images/*", "mvimgnet": "*/*/images/00*",
    "vkitti2": "*/*/frames/rgb/*/*", "wildrgbd": "*/*/*/rgb/*", "standard": "*/images/*", "nerfstudio": "images/*",
    "colmap": "*/images/*",
}  # fmt: skip
DEPTH = {
    "tartanair": "*/*/*/depth_left/*", "kitti360": "data_3d_raw/*/*/*/*", "co3d": "*/*/depths/*",
    "vkitti2": "*/*/frames/depth/*/*", "wildrgbd": "*/*/*/depth/*", "standard": "*/depth/*", "nerfstudio": "depths/*",
}  # fmt: skip
FILES = [(name, pattern) for name, patterns in CAMERAS.items() for pattern in patterns]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 | 4])  # within a point of a laser's four numbers


def garble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(200))


def read_all(name: str, folder: Path) -> None:
    """Everything that training would read."""
    record = the_scene(open_dataset(name, folder, strict=True))
    load_clip(record, list(range(len(record))), 32, 32)
    if record.read_points is not None:
        record.read_points()


@pytest.mark.parametrize("damage", [empty, halve, garble])
@pytest.mark.parametrize(("name", "pattern"), FILES)
def test_cameras(name: str, pattern: str, damage: Callable, truths: Truths, tmp_path: Path) -> None:
    LAYOUTS[name].write(tmp_path, truths(name))
    (path,) = tmp_path.glob(pattern)
    damage(path)
    with pytest.raises(InputError) as caught:
        read_all(name, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def nan_pose(name: str, folder: Path) -> None:
    """One pose that is not a number, where the dataset keeps them."""
    (path,) = folder.glob(CAMERAS[name][0])
    if name == "co3d":
        with gzip.open(path, "rt") as file:
            frames = json.load(file)
        frames[2]["viewpoint"]["T"][1] = float("nan")
        with gzip.open(path, "wt") as file:
            json.dump(frames, file)
    elif path.suffix == ".json":
        data = json.loads(path.read_text())
        data["frames"][2]["transform_matrix"][0][3] = float("nan")
        path.write_text(json.dumps(data))
    elif name == "mvimgnet":
        data = bytearray(path.read_bytes())
        data[8 + 4 + 32 : 8 + 4 + 40] = np.float64("nan").tobytes()
        path.write_bytes(data)
    else:
        lines = path.read_text().splitlines()
        column = {"colmap": 6, "tartanair": 1}.get(name, 12)
        row = {"colmap": 3, "vkitti2": 3}.get(name, 2)
        fields = lines[row].split()
        fields[column] = "nan"
        lines[row] = " ".join(fields)
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n not in ("waymo", "clips")])
def test_a_pose_that_is_not_a_number(name: str, truths: Truths, tmp_path: Path) -> None:
    LAYOUTS[name].write(tmp_path, truths(name))
    nan_pose(name, tmp_path)
    with pytest.raises(InputError, match=r"not finite|absurd"):
        read_all(name, tmp_path)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("damage", [empty, halve, Path.unlink])
def test_pictures(name: str, damage: Callable, truths: Truths, tmp_path: Path) -> None:
    LAYOUTS[name].write(tmp_path, truths(name))
    damage(sorted(tmp_path.glob(PICTURES[name]))[2])
    if name == "kitti360" and damage is Path.unlink:
        assert len(the_scene(open_dataset(name, tmp_path))) == 2  # cut in two there
        return
    with pytest.raises(InputError) as caught:
        read_all(name, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", DEPTH)
@pytest.mark.parametrize("damage", [empty, halve, Path.unlink])
def test_depth(name: str, damage: Callable, truths: Truths, tmp_path: Path) -> None:
    LAYOUTS[name].write(tmp_path, truths(name))
    damage(sorted(tmp_path.glob(DEPTH[name]))[2])
    with pytest.raises(InputError, match=r"cannot be read|no image at|is damaged|is not an image"):
        read_all(name, tmp_path)


@pytest.mark.parametrize("name", ["kitti360", "co3d"])
def test_one_damaged_list_does_not_hide_the_others(name: str, truths: Truths, tmp_path: Path) -> None:
    LAYOUTS[name].write(tmp_path, truths(name))
    (path,) = tmp_path.glob(CAMERAS[name][0])
    other = path.parent.parent / "other" / path.name
    other.parent.mkdir()
    other.write_bytes(b"")
    reader = open_dataset(name, tmp_path)
    with pytest.warns(UserWarning, match="1 files skipped"):
        assert len(reader.scenes) == 1
    with pytest.raises(InputError):
        open_dataset(name, tmp_path, strict=True).scenes  # noqa: B018


def test_training_goes_on_past_them_or_stops(truths: Truths, tmp_path: Path) -> None:
    """A truncated picture, a missing depth map, an empty camera file and a pose that is not a number, among six."""
    for number in range(6):
        LAYOUTS["wildrgbd"].write(tmp_path / str(number), truths("wildrgbd"))
        (tmp_path / "all" / "apple" / "scenes").mkdir(parents=True, exist_ok=True)
        (tmp_path / str(number) / "apple" / "scenes" / "scenes_001").rename(
            tmp_path / "all" / "apple" / "scenes" / f"scenes_{number:03d}"
        )
    scenes = sorted((tmp_path / "all" / "apple" / "scenes").iterdir())
    halve(scenes[0] / "rgb" / "00001.png")
    (scenes[1] / "depth" / "00002.png").unlink()
    empty(scenes[2] / "cam_poses.txt")
    lines = (scenes[3] / "cam_poses.txt").read_text().splitlines()
    (scenes[3] / "cam_poses.txt").write_text("\n".join([lines[0].replace(lines[0].split()[4], "nan"), *lines[1:]]))
    sampler = ClipSampler(frames=5, height=32, width=32, max_stride=1)
    dataset = open_dataset("wildrgbd", tmp_path / "all")
    clips = SampledClips({"wildrgbd": dataset}, sampler)
    with pytest.warns(UserWarning, match="skipped so far"):
        assert len(list(clips)) == 6
    assert clips.skipped["wildrgbd"] >= 4
    strict = SampledClips({"wildrgbd": dataset}, sampler, strict=True)
    failures = 0
    for position in range(6):
        try:
            strict[position]
        except InputError:
            failures += 1
    assert failures == 4
