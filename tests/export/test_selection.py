"""What of a scene leaves it, and in which unit."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import opengl_to_opencv, world_axes
from gen3r.cameras.formats.nerfstudio import parse_transforms, to_nerfstudio
from gen3r.cameras.formats.trajectories import to_kitti, to_tum
from gen3r.errors import InputError
from gen3r.export.options import ExportOptions, KnownLength, parse_length
from gen3r.export.selection import Selection
from gen3r.export.unit import in_metres, measured_length
from gen3r.geometry.points import depth_edges, grazing_angles, surface_normals, unproject
from gen3r.geometry.sky import find_sky
from gen3r.scene import Scene
from tests.export.conftest import EVERYTHING, make_scene
from tests.poses import random_cameras, seeds


def select(scene: Scene, **options) -> Selection:
    return Selection(scene, replace(EVERYTHING, **options))


def from_depth(depth: torch.Tensor, scene: Scene) -> Scene:
    points = unproject(depth, scene.cameras.T_world_camera, scene.cameras.K_px)
    return replace(scene, depth=depth, points=points, mask=depth > 0)


def test_without_filters_every_valid_point_leaves(scene: Scene):
    assert torch.equal(scene.to_points(EVERYTHING).points, scene.points[scene.mask])


def test_what_a_photo_shows_leaves_once():
    scene = make_scene(frames=3)
    source = torch.zeros(3, 32, 48, dtype=torch.uint8)
    source[:2, :, :24], source[:, :, 24:40] = 1, 2
    cloud = select(replace(scene, source=source)).cloud()
    kept = scene.mask.clone()
    kept[1, :, :24], kept[:2, :, 24:40] = False, False
    assert torch.equal(cloud.points, scene.points[kept])


def test_points_that_are_not_finite_are_left_out(scene: Scene):
    points = scene.points.clone()
    points[0, 10, 10] = float("nan")
    cloud = select(replace(scene, points=points)).cloud()
    assert cloud.points.isfinite().all()
    assert len(cloud) == int(scene.mask.sum()) - 1


def test_the_least_confident_are_left_out(scene: Scene):
    confidence = torch.linspace(1, 2, scene.depth.numel()).view(scene.depth.shape)
    reliable = select(replace(scene, confidence=confidence), unsure=0.25).reliable
    assert not reliable.flatten()[: reliable.numel() // 4 - 1].any()
    assert torch.equal(
        reliable.flatten()[reliable.numel() // 4 + 1 :], scene.mask.flatten()[reliable.numel() // 4 + 1 :]
    )


def test_equal_confidence_leaves_all(scene: Scene):
    assert torch.equal(select(scene, unsure=0.9).reliable, scene.mask)


def test_edges_are_both_sides_of_a_jump(scene: Scene):
    reliable = select(scene, edges=0.1).reliable
    box = torch.zeros(32, 48, dtype=torch.bool)
    box[7:17, 7:17], box[9:15, 9:15] = True, False
    box[[7, 7, 16, 16], [7, 16, 7, 16]] = False  # corners beside no jump
    assert not (reliable & box).any()
    assert torch.equal(reliable, scene.mask & ~box)


@given(seeds, st.floats(1.0, 40.0))
def test_a_plane_is_kept_where_it_is_seen_steeply(seed: int, least: float):
    scene, generator = make_scene(frames=1), torch.Generator().manual_seed(seed)
    normal = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
    rays = unproject(torch.ones(32, 48), torch.eye(4), scene.cameras.K_px[0])
    inverse = rays @ normal  # of the depth of the plane at distance 1
    if bool(inverse.abs().max() < 1e-2):
        return
    sines = inverse / rays.norm(dim=-1)
    plane = from_depth(torch.where(inverse > 0, 1 / inverse, 0)[None], scene)
    kept = select(plane, grazing=least).reliable[0]
    inner = torch.nn.functional.max_pool2d((inverse <= 0).float()[None], 3, 1, 1)[0] == 0  # the horizon is not near
    sure = inner & ((sines.clamp(max=1).asin().rad2deg() - least).abs() > 0.1)
    assert torch.equal(kept & sure, sure & (sines > math.sin(math.radians(least))))


def test_slopes_to_the_sky_are_sky(scene: Scene):
    """A tree under a blue sky: its depth slopes to that of the sky in the sky's colours."""
    depth, frame = torch.full((32, 48), 1.0), torch.full((32, 48, 3), 40, dtype=torch.uint8)
    sky, slope, tree = (slice(0, 24), slice(0, 30)), (slice(0, 24), slice(30, 40)), (slice(0, 24), slice(40, 48))
    depth[sky], depth[slope] = 20.0, torch.linspace(20, 1.2, 10)
    frame[sky] = frame[slope] = torch.tensor([120, 160, 230], dtype=torch.uint8)
    K_px = scene.cameras.K_px[0]
    found = find_sky(depth, grazing_angles(depth, K_px), frame, far=3.0, near=1.0)
    assert found[sky].all()
    assert found[slope][2:-2, 1:-1].all()
    assert not found[tree].any()
    assert not found[24:].any()
    for change in ("another colour", "not at the top", "nothing far"):
        other, painted = depth.clone(), frame.clone()
        if change == "another colour":
            painted[slope] = 90
        elif change == "not at the top":
            other[0] = 1.0
        else:
            other = other.clamp(max=2.9)
        assert torch.equal(find_sky(other, grazing_angles(other, K_px), painted, far=3.0, near=1.0), other > 3.0), (
            change
        )


def test_what_no_photo_shows_may_differ_more_from_the_sky(scene: Scene):
    depth, frame = torch.full((32, 48), 1.0), torch.full((32, 48, 3), 40, dtype=torch.uint8)
    sky, slope = (slice(0, 24), slice(0, 30)), (slice(0, 24), slice(30, 40))
    depth[sky], depth[slope] = 20.0, torch.linspace(20, 1.2, 10)
    frame[:24, :40] = torch.where(depth[:24, :40] > 3, 230, 185)[..., None].byte()
    angles, source = grazing_angles(depth, scene.cameras.K_px[0]), torch.ones(32, 48, dtype=torch.uint8)
    assert torch.equal(find_sky(depth, angles, frame, 3.0, 1.0, source), depth > 3.0)
    source[slope] = 0
    assert find_sky(depth, angles, frame, 3.0, 1.0, source)[slope][2:-2, 1:-1].all()


def test_the_sky_is_what_is_far(scene: Scene):
    depth = scene.depth.clone()
    depth[:, -1] = 30.0
    reliable = select(from_depth(depth, scene), sky=4).reliable
    assert not reliable[:, -1].any()
    assert reliable[:, :-1].all()


def test_a_cube_holds_one_point(scene: Scene):
    selection = select(scene, voxel=0.05)
    points = scene.points.flatten(0, 2)[selection.pixels]
    cubes = (points / selection.voxel).floor()
    assert len(cubes.unique(dim=0)) == len(points) < int(scene.mask.sum())
    every = (scene.points[scene.mask] / selection.voxel).floor()
    assert len(every.unique(dim=0)) == len(points)
    assert (selection.cloud().widths >= selection.voxel).all()


@pytest.mark.parametrize("most", [7, 50, 999])
def test_the_number_of_points_is_bounded_and_their_surface_is_kept(scene: Scene, most: int):
    full, cloud = select(scene).cloud(), select(scene, max_points=most).cloud()
    assert most / 2 < len(cloud) <= most
    assert float((cloud.widths**2).sum()) == pytest.approx(float((full.widths**2).sum()), rel=0.5)


def test_a_stray_point_is_left_out(scene: Scene):
    points = scene.points.clone()
    points[2, 20, 20] += torch.tensor([0.0, -3.0, 0.0])
    stray = replace(scene, points=points)
    left = torch.ones(scene.depth.shape, dtype=torch.bool).flatten()
    left[select(stray, outliers=3).pixels] = False
    assert left.view(scene.depth.shape)[2, 20, 20]
    assert (left & scene.mask.flatten()).float().mean() < 0.02


def test_normals_face_the_camera_and_rotate_with_it(scene: Scene):
    cloud = scene.to_points()
    assert cloud.normals is not None
    assert torch.allclose(cloud.normals.norm(dim=-1), torch.ones(len(cloud)))
    assert (cloud.normals * cloud.points).sum(-1).max() < 0
    turned = scene.to_points(ExportOptions(axes="opengl"))
    assert turned.normals is not None
    flip = torch.tensor([1.0, -1.0, -1.0])
    assert torch.allclose(turned.points, cloud.points * flip)
    assert torch.allclose(turned.normals, cloud.normals * flip)


planes = st.tuples(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2), st.floats(0.5, 20))


@given(planes)
def test_a_plane_has_one_normal_and_no_edge(plane: tuple[float, float, float]):
    normal = torch.nn.functional.normalize(torch.tensor([plane[0], plane[1], -1.0]).double(), dim=0)
    camera = Cameras.from_fov(torch.eye(4)[None], 0.6, 24, 32)
    K_px = camera.K_px[0].double()
    rays = unproject(torch.ones(24, 32).double(), torch.eye(4).double(), K_px)
    depth = -plane[2] / (rays @ normal)
    depth = torch.where(depth > 0, depth, torch.inf)
    whole = bool(depth.isfinite().all())
    found = surface_normals(depth, K_px, torch.arange(24 * 32))
    inner = torch.zeros(24, 32, dtype=torch.bool)
    inner[1:-1, 1:-1] = whole
    assert torch.allclose(found.view(24, 32, 3)[inner], normal.expand(int(inner.sum()), 3), atol=1e-5)
    assert not whole or not depth_edges(depth, 1e-3).any()


@given(seeds)
def test_paths_read_back_as_they_were(seed: int):
    cameras = random_cameras(seed)
    T = cameras.T_world_camera.double().numpy()
    kitti = np.array([line.split() for line in to_kitti(cameras).splitlines()], float).reshape(-1, 3, 4)
    assert np.array_equal(kitti.astype(np.float32), T[:, :3].astype(np.float32))
    tum = np.array([line.split() for line in to_tum(cameras, 12).splitlines()], float)
    assert np.array_equal(tum[:, 1:4].astype(np.float32), T[:, :3, 3].astype(np.float32))
    x, y, z, w = tum[:, 4:].T
    forward = np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], -1)
    assert np.abs(forward - T[:, :3, 2]).max() < 1e-5


@given(seeds)
def test_nerfstudio_reads_back_in_a_turned_world(seed: int):
    cameras = random_cameras(seed)
    again = parse_transforms(to_nerfstudio(cameras, [str(i) for i in range(len(cameras))]))
    assert np.array_equal(again.intrinsics, cameras.K_px[:, [0, 1, 0, 1], [0, 1, 2, 2]].double().numpy())
    back = world_axes("z up").mT @ torch.from_numpy(again.T_world_camera)
    assert torch.allclose(back.float(), cameras.T_world_camera, atol=1e-6)


@given(seeds, st.sampled_from(["opencv", "opengl", "z up"]))
def test_axes_are_turns_that_keep_what_a_camera_sees(seed: int, axes):
    turn, cameras = world_axes(axes), random_cameras(seed)
    assert torch.equal(turn @ turn.mT, torch.eye(4).double())
    assert torch.linalg.det(turn) == 1
    up = {"opencv": [0, -1, 0, 0], "opengl": [0, 1, 0, 0], "z up": [0, 0, 1, 0]}[axes]
    assert (turn @ torch.tensor([0.0, -1, 0, 0]).double()).tolist() == up
    T = cameras.T_world_camera.double()
    point = torch.tensor([0.3, -0.2, 5, 1]).double()
    assert torch.allclose(torch.linalg.inv(turn @ T) @ turn @ point, torch.linalg.inv(T) @ point)
    assert torch.equal(opengl_to_opencv(opengl_to_opencv(T)), T)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("height=1.6", KnownLength(metres=1.6)),
        ("3:10,20:30.5,40=2", KnownLength(metres=2, frame=3, pixels=((10, 20), (30.5, 40)))),
    ],
)
def test_known_lengths_are_read(text: str, known: KnownLength):
    assert parse_length(text) == known


def floor_scene(height: float, tilt: float) -> Scene:
    """A camera over a floor, looking down by an angle [rad], before a wall."""
    scene = make_scene(frames=2)
    rays = unproject(torch.ones(2, 32, 48), torch.eye(4).repeat(2, 1, 1), scene.cameras.K_px)
    down = torch.tensor([0.0, np.cos(tilt), np.sin(tilt)]).float()
    ahead = torch.tensor([0.0, -np.sin(tilt), np.cos(tilt)]).float()
    floor, wall = height / (rays @ down), 3 / (rays @ ahead)
    return from_depth(torch.where((floor > 0) & (floor < wall), floor, wall), scene)


@pytest.mark.parametrize(("height", "tilt"), [(1.0, 0.0), (0.7, 0.3), (0.9, -0.1)])
def test_the_height_over_the_floor_makes_metres(height: float, tilt: float):
    scene = floor_scene(height, tilt)
    assert measured_length(scene, KnownLength(metres=1.6)) == pytest.approx(height, rel=0.01)
    metric = in_metres(scene, KnownLength(metres=1.6))
    for name in ("depth", "points"):
        assert torch.allclose(getattr(metric, name), 1.6 / height * getattr(scene, name), rtol=0.01)
    assert metric.settings["metres_per_unit"] == 1
    assert in_metres(metric) is metric


def test_a_scene_that_knows_metres_is_exported_in_them(scene: Scene):
    metric = in_metres(replace(scene, settings={"metres_per_unit": 2.5}))
    assert torch.equal(metric.depth, 2.5 * scene.depth)
    assert torch.equal(metric.cameras.centres, 2.5 * scene.cameras.centres)
    assert in_metres(scene) is scene


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            KnownLength(metres=1, frame=9, pixels=((0, 0), (1, 1))),
            "no pixel 0,0 in frame 9; it has 5 frames of 48 x 32",
        ),
        (KnownLength(metres=1, pixels=((1, 1), (48, 1))), "no pixel 48,1"),
        (KnownLength(metres=1, pixels=((3, 3), (3.4, 3.2))), "are one point"),
        (KnownLength(metres=1, pixels=((0, 0), (20, 20))), "pixel 0,0 of frame 0 has no depth"),
        (KnownLength(metres=1), "no floor"),
    ],
)
def test_a_length_that_cannot_be_measured(scene: Scene, known: KnownLength, message: str):
    scene.depth[0, 0, 0] = 0
    with pytest.raises(InputError, match=message):
        in_metres(scene, known)


@pytest.mark.parametrize(
    "options", [{"unsure": 1.0}, {"edges": -1}, {"grazing": -1}, {"sky": float("nan")}, {"max_points": 0}]
)
def test_options_out_of_range(options: dict):
    with pytest.raises(InputError, match=f"--{next(iter(options)).replace('_', '-')} must be"):
        ExportOptions(**options)
