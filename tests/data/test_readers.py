"""Every reader on a scene with known cameras and depth, written in the dataset's own layout."""

import itertools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.lens import Lens
from gen3r.data.readers import READERS, open_dataset
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import PointFile
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError
from gen3r.geometry.points import project
from tests.data.layouts import (
    LAYOUTS,
    MOVES,
    PATCH,
    Truth,
    Truths,
    some_points,
    world_points,
    write_co3d,
    write_kitti360,
    write_waymo,
    write_wildrgbd,
)

SCALE = 3.7  # of the datasets whose unit is their own
FARTHEST = 5.0  # metres that WildRGB-D's laser is trusted for
PAIRS = ((0, 1), (1, 0), (0, 4), (3, 1))
# The 24 ways in which a world's axes may lie.
CUBE = [
    np.array([[s if p == j else 0 for j in range(3)] for p, s in zip(order, signs, strict=True)], float)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
CUBE = [turn for turn in CUBE if np.linalg.det(turn) > 0]
TILT = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()


def landing(depth: np.ndarray, T: np.ndarray, K: np.ndarray, i: int, j: int) -> np.ndarray:
    """Where the pixels of frame i land in frame j: [H, W, 2]."""
    row, column = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]] + 0.5
    local = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(K[i]).T * depth[..., None]
    seen = (local @ T[i][:3, :3].T + T[i][:3, 3] - T[j][:3, 3]) @ T[j][:3, :3]
    with np.errstate(all="ignore"):
        return (seen @ K[j].T)[..., :2] / seen[..., 2:]


def depth_of(record: ClipRecord, i: int, truth: Truth) -> np.ndarray:
    """The record's depth; the true one, in the dataset's unit, where it has none."""
    return truth.depth[i] if record.read_depth is None else record.read_depth(i).double().numpy()


def gap(record: ClipRecord, truth: Truth) -> float:
    """Pixels between where the record's depth and cameras bring a pixel and where it truly is, at the 95th percentile
    of the worst pair of frames; infinite where a tenth of the depth is lost."""
    T = record.cameras.T_world_camera.double().numpy()
    K = record.cameras.K_px.double().numpy()
    height, width = truth.size
    worst = 0.0
    for i, j in PAIRS:
        depth = depth_of(record, i, truth)
        known = truth.depth[i] > 0
        if record.name.startswith("wildrgbd"):
            known &= truth.depth[i] <= FARTHEST
        if (depth[known] > 0).mean() < 0.9:
            return np.inf
        should = landing(truth.depth[i], truth.T, np.tile(truth.K, (len(T), 1, 1)), i, j)
        there = known & (depth > 0) & (should > 0).all(-1) & (should < [width, height]).all(-1)
        off = np.linalg.norm(landing(depth, T, K, i, j) - should, axis=-1)[there]
        worst = max(worst, float(np.percentile(np.nan_to_num(off, nan=np.inf), 95)))
    return worst


def points_gap(record: ClipRecord, truth: Truth) -> float:
    """The most pixels between where the record's points and cameras put a point in a frame and where it truly is."""
    assert record.read_points is not None
    read, (points, _) = record.read_points().points, some_points(truth)
    assert len(read) == len(points)
    pixel, z = project(read, record.cameras.T_world_camera, record.cameras.K_px)
    should, depth = project(torch.from_numpy(points), torch.from_numpy(truth.T), torch.from_numpy(truth.K))
    off = torch.where(z > 0, (pixel - should).norm(dim=-1).nan_to_num(torch.inf), torch.inf)
    return float(off[depth > 0.5].max())


def photometric(record: ClipRecord, truth: Truth) -> float:
    """The median difference, of 255, between a pixel and what lies where the record's geometry says that it moved."""
    T, K = record.cameras.T_world_camera.double().numpy(), record.cameras.K_px.double().numpy()
    height, width = truth.size
    differences = []
    for i, j in PAIRS:
        depth = depth_of(record, i, truth)
        place = landing(depth, T, K, i, j)
        inside = (depth > 0) & (place > 1).all(-1) & (place < [width - 1, height - 1]).all(-1)
        one, other = record.read_frame(i).double().numpy(), record.read_frame(j).double().numpy()
        x, y = place[inside].T - 0.5
        moved = np.stack([map_coordinates(other[..., c], [y, x], order=1) for c in range(3)], -1)
        differences.append(np.median(np.abs(moved - one[inside]).mean(-1)) if inside.any() else np.inf)
    return float(max(differences))


def frame_error(record: ClipRecord, truth: Truth) -> float:
    """The mean difference, of 255, between the record's frames and the true ones, but for their edges."""
    frames = np.stack([record.read_frame(i).double().numpy() for i in range(len(record))])
    return float(np.abs(frames - truth.frames)[:, 8:-8, 8:-8].mean())


def the_scene(reader: Reader) -> ClipRecord:
    """What was written: the only scene, or of Waymo the second camera's."""
    return reader[next(i for i, scene in enumerate(reader.scenes) if reader.name != "waymo" or "FRONT_LEFT" in scene)]


def written(name: str, truth: Truth, folder: Path) -> ClipRecord:
    """The scene as the dataset's reader reads it."""
    LAYOUTS[name].write(folder, truth)
    return the_scene(open_dataset(name, folder))


def as_stored(name: str, truth: Truth) -> Truth:
    """The truth in the unit that the dataset keeps, in a world that is turned and far from its origin."""
    return truth.in_world(TILT, (860.6, 15568.7, -651.4), 1.0 if LAYOUTS[name].metric else SCALE)


def test_every_reader_has_a_layout() -> None:
    """All but plain videos and photos, whose tests are their own."""
    assert set(LAYOUTS) == set(READERS) - {"videos"}


@pytest.mark.parametrize("name", READERS)
def test_docstrings_say_what_lies_where(name: str, tmp_path: Path) -> None:
    kind = type(open_dataset(name, tmp_path))
    words = " ".join((kind.__doc__ or "").split())
    assert words.endswith(f"Licence: {kind.licence}.")
    if name not in ("acid", "mvimgnet"):  # as RealEstate10K and COLMAP
        assert all(entry in words for entry in ("Tree: ", "Depth: "))
        assert "Poses: " in words or "Cameras: " in words or "world-to-camera" in words


@pytest.mark.parametrize("name", LAYOUTS)
def test_frames_cameras_and_depth_agree(name: str, truths: Truths, tmp_path: Path) -> None:
    truth = truths(name)
    stored = as_stored(name, truth)
    record = written(name, stored, tmp_path)
    assert len(record) == len(truth.T)
    assert (record.dataset, record.metric) == (name, LAYOUTS[name].metric)
    assert (record.read_depth is not None) == LAYOUTS[name].depth
    assert gap(record, stored) < 0.5
    assert photometric(record, stored) < 8
    assert record.read_frame(0).dtype == torch.uint8
    assert frame_error(record, truth) < 4
    assert (record.read_points is not None) == LAYOUTS[name].points
    if record.read_points is not None:
        assert points_gap(record, stored) < 0.5
        cloud = record.read_points()
        assert (cloud.points.dtype, cloud.colours.dtype) == (torch.float32, torch.uint8)  # type: ignore[union-attr]
        np.testing.assert_array_equal(cloud.colours, some_points(truth)[1])


@pytest.mark.parametrize("name", ["dl3dv", "waymo", "mvimgnet", "colmap", "nerfstudio"])
def test_a_lens_that_is_not_undone_is_caught(
    name: str, truths: Truths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = frame_error(written(name, truths(name), tmp_path / "right"), truths(name))
    monkeypatch.setattr(Lens, "undistort", lambda self, pixels: pixels)
    wrong = frame_error(written(name, truths(name), tmp_path / "wrong"), truths(name))
    assert wrong > 1.5 * right


@pytest.mark.parametrize("turns", [CUBE[::6], pytest.param(CUBE, marks=pytest.mark.nightly)], ids=["four", "all"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_any_orientation_of_the_world(name: str, turns: list[np.ndarray], truths: Truths, tmp_path: Path) -> None:
    truth = truths(name)
    for number, turn in enumerate(turns):
        stored = truth.in_world(turn, (3, -2, 5))
        (tmp_path / str(number)).mkdir()
        record = written(name, stored, tmp_path / str(number))
        assert gap(record, stored) < 0.5
        assert record.read_points is None or points_gap(record, stored) < 0.5


Break = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def turned(*signs: int, order: tuple[int, ...] = (0, 1, 2)) -> Break:
    change = np.eye(4)
    change[:3, :3] = np.diag(signs)[:, order]
    return lambda T, K: (T @ change, K)


def unit(factor: float) -> Break:
    return lambda T, K: (T * np.array([[1, 1, 1, factor]] * 3 + [[1, 1, 1, 1]]), K)


BREAKS: dict[str, Break] = {
    "y and z flipped": turned(1, -1, -1),
    "x and y flipped": turned(-1, -1, 1),
    "axes rotated": turned(1, 1, 1, order=(1, 2, 0)),
    "pose inverted": lambda T, K: (np.linalg.inv(T), K),
    "hundredths": unit(0.01),
    "a tenth too long": unit(1.1),
    "focal length a tenth off": lambda T, K: (T, K * [1.1, 1.1, 1, 1]),
    "intrinsics of half the size": lambda T, K: (T, K * 2),
    "principal point for focal length": lambda T, K: (T, np.roll(K, 2, axis=-1)),
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("name", [n for n in LAYOUTS if n != "clips"])  # whose cameras are stored as they are
def test_a_reader_that_is_wrong_is_caught(
    name: str, broken: str, truths: Truths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader gives to `make_cameras`, spoilt."""
    stored = as_stored(name, truths(name))
    LAYOUTS[name].write(tmp_path, stored)
    reader = open_dataset(name, tmp_path)

    def spoilt(T: np.ndarray, K: np.ndarray, size: tuple[int, int]):
        return make_cameras(*BREAKS[broken](T, K), size)

    monkeypatch.setattr(sys.modules[type(reader).read_scene.__module__], "make_cameras", spoilt)
    assert gap(the_scene(reader), stored) > 0.5


@pytest.mark.parametrize("broken", ["y and z flipped", "axes rotated", "pose inverted", "a tenth too long"])
@pytest.mark.parametrize("name", [n for n in LAYOUTS if LAYOUTS[n].points])
def test_points_that_are_wrong_are_caught(name: str, broken: str, truths: Truths, tmp_path: Path) -> None:
    """The pose that they are seen from, spoilt; and points left in the file's world."""
    stored = as_stored(name, truths(name))
    record = written(name, stored, tmp_path)
    points = record.read_points
    assert isinstance(points, PointFile)
    spoilt, _ = BREAKS[broken](points.T_world_camera[None], np.zeros(4))
    for T in (spoilt[0], np.eye(4)):
        assert points_gap(replace(record, read_points=replace(points, T_world_camera=T)), stored) > 0.5


def test_the_check_notices_wrong_depth(truths: Truths, tmp_path: Path) -> None:
    truth = truths("standard")
    record = written("standard", truth, tmp_path)
    assert record.read_depth is not None
    right = record.read_depth
    for factor in (0.001, 0.1, 0.9, 1.1, 10):
        wrong = ClipRecord("standard", "0", record.cameras, record.read_frame, lambda i, f=factor: right(i) * f)
        assert gap(wrong, truth) > 0.5
    holes = torch.arange(truth.size[1]) % 5 > 0
    lost = ClipRecord("standard", "0", record.cameras, record.read_frame, lambda i: right(i) * holes)
    assert gap(lost, truth) == np.inf


def test_co3d_reads_both_forms_of_intrinsics(truths: Truths, tmp_path: Path) -> None:
    truth = truths("co3d")
    for form in ("ndc_isotropic", "ndc_norm_image_bounds"):
        write_co3d(tmp_path / form, truth, form)
        record = open_dataset("co3d", tmp_path / form)[0]
        assert gap(record, truth) < 0.5
        assert record.read_depth is not None
        assert record.read_depth(0)[:5].max() == 0  # masked


def test_kitti360_is_cut_where_poses_are_missing(truths: Truths, tmp_path: Path) -> None:
    truth = truths("kitti360")
    write_kitti360(tmp_path, truth, missing=2)
    reader = open_dataset("kitti360", tmp_path)
    assert [s[-3:] for s in reader.scenes] == ["250", "253"]
    assert [len(record) for record in reader] == [2, 2]
    np.testing.assert_array_equal(reader[1].read_frame(0).numpy(), truth.frames[3])
    relative = np.linalg.inv(truth.T[3]) @ truth.T[4]
    np.testing.assert_allclose(reader[1].cameras.T_world_camera[1].numpy(), relative, atol=1e-5)


def test_vkitti2_leaves_out_what_moves(truths: Truths, tmp_path: Path) -> None:
    truth = truths("vkitti2")
    read_depth = written("vkitti2", truth, tmp_path).read_depth
    assert read_depth is not None
    corner = truth.depth[:, -8:, -8:]
    assert (corner > 0).all()
    assert read_depth(1)[-8:, -8:].max() == 0
    np.testing.assert_allclose(read_depth(2)[-8:, -8:].numpy(), corner[2], atol=0.006)


@pytest.mark.parametrize("name", ["kitti360", "waymo"])
def test_lasers_leave_out_what_moves(name: str, truths: Truths, tmp_path: Path) -> None:
    """The patch in the frame where it moves; not what lies well outside its box, nor the same patch where it stands."""
    truth = as_stored(name, truths(name))
    read_depth = written(name, truth, tmp_path).read_depth
    assert read_depth is not None
    known = [read_depth(i).numpy() > 0 for i in range(3)]
    assert not known[MOVES][PATCH].any()
    distance = np.linalg.norm(world_points(truth, MOVES) - world_points(truth, MOVES)[PATCH].mean((0, 1)), axis=-1)
    reach = 1.5 * distance[PATCH].max()
    apart = (distance > reach) & (truth.depth[MOVES] > 0) & (np.arange(truth.size[0]) != 3)[:, None]
    assert apart.sum() > 2000
    assert known[MOVES][apart].all()
    assert known[0][PATCH].all()
    assert known[1][PATCH].all()


def test_waymo_leaves_out_zones_without_labels(truths: Truths, tmp_path: Path) -> None:
    truth = truths("waymo")
    read_depth = written("waymo", truth, tmp_path).read_depth
    assert read_depth is not None
    known, expected = read_depth(0).numpy()[2:5] > 0, truth.depth[0][2:5] > 0
    assert expected[1].any()
    expected[1] = False
    np.testing.assert_array_equal(known, expected)


def test_waymo_without_its_laser(truths: Truths, tmp_path: Path) -> None:
    write_waymo(tmp_path, truths("waymo"))
    shutil.rmtree(tmp_path / "training" / "lidar_box")
    reader = open_dataset("waymo", tmp_path)
    read_depth = the_scene(reader).read_depth
    assert read_depth is not None
    assert (read_depth(MOVES)[PATCH] > 0).all()
    shutil.rmtree(tmp_path / "training" / "lidar_pose")
    assert the_scene(reader).read_depth is None


@pytest.mark.parametrize("types", [{"scenes_001": "hand"}, {"single": ["scenes_002"], "hand": ["scenes_001"]}])
def test_wildrgbd_leaves_out_hands(types: dict, truths: Truths, tmp_path: Path) -> None:
    write_wildrgbd(tmp_path, truths("wildrgbd"))
    assert open_dataset("wildrgbd", tmp_path).scenes == ["apple/scenes/scenes_001"]
    (tmp_path / "apple" / "types.json").write_text(json.dumps(types))
    assert open_dataset("wildrgbd", tmp_path).scenes == ["apple/scenes/scenes_002"]


def test_captions(truths: Truths, tmp_path: Path) -> None:
    truth = truths("standard")
    assert written("standard", truth, tmp_path).captions == (truth.caption, "The same again.")


@pytest.mark.parametrize("name", READERS)
def test_nothing_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \w+ scene; expected"):
        open_dataset(name, tmp_path).scenes  # noqa: B018
    with pytest.raises(InputError, match="no folder"):
        open_dataset(name, tmp_path / "none")


@pytest.mark.parametrize("scene", ["none", "no/such", "no/such/scene", "a/b/c/d"])
@pytest.mark.parametrize("name", READERS)
def test_no_such_scene(name: str, scene: str, truths: Truths, tmp_path: Path) -> None:
    if name in LAYOUTS:
        LAYOUTS[name].write(tmp_path, truths(name))
    with pytest.raises(InputError):
        open_dataset(name, tmp_path).read(scene)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_such_scene_among_those_that_are_there(name: str, truths: Truths, tmp_path: Path) -> None:
    LAYOUTS[name].write(tmp_path, truths(name))
    reader = open_dataset(name, tmp_path)
    folder, _, _ = reader.scenes[0].rpartition("/")
    with pytest.raises(InputError) as caught:
        reader.read(f"{folder}/none" if folder else "none")
    assert len(str(caught.value).splitlines()) == 1


def test_no_such_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset 'kitty'"):
        open_dataset("kitty", tmp_path)
