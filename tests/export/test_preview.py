"""The contact sheet and its views of the point cloud."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gen3r.cameras.camera import Cameras
from gen3r.export.cloud_view import MAX_SPLAT_PX, View, frame_view, render
from gen3r.export.options import ExportOptions
from gen3r.export.preview import contact_sheet
from gen3r.export.selection import Selection
from gen3r.geometry.clouds import PointCloud
from gen3r.geometry.points import project, unproject
from gen3r.media.drawing import CLOUD_BACKGROUND, WIDTH
from gen3r.scene import Scene
from tests.export.conftest import EVERYTHING, make_scene

VIEW = View(torch.eye(4), 20.0, 24, 32)


def every_point(scene: Scene) -> PointCloud:
    return Selection(scene, EVERYTHING).cloud()


def sheet_of(scene: Scene) -> Image.Image:
    return contact_sheet(Selection(scene, ExportOptions()))


def cloud_of(points: list[list[float]], colours: list[list[int]], width: float = 0.05) -> PointCloud:
    return PointCloud(torch.tensor(points), torch.tensor(colours, dtype=torch.uint8), torch.full((len(points),), width))


def test_the_nearest_point_wins_whatever_the_order():
    points, colours = [[0.0, 0, 3], [0.0, 0, 1], [0.0, 0, 2]], [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        image = render(cloud_of([points[i] for i in order], [colours[i] for i in order]), VIEW, (0, 0, 0))
        assert image[12, 16].tolist() == [2, 2, 2]


@pytest.mark.parametrize("azimuth", [0.0, 0.6])
def test_a_render_has_the_pixels_of_a_plain_loop(scene: Scene, azimuth: float):
    cloud = every_point(scene)[::7]
    assert cloud.colours is not None
    assert cloud.widths is not None
    view = frame_view(cloud.points, scene.cameras.centres, azimuth, 0.3, 60, 80)
    pixels, z = view.project(cloud.points)
    expected, depth = torch.zeros(60, 80, 3, dtype=torch.uint8), torch.full((60, 80), torch.inf)
    sides = (cloud.widths * view.focal / z).ceil().clamp(1, MAX_SPLAT_PX)
    for (x, y), near, side, colour in zip(
        (pixels - sides[:, None] / 2).round().long(), z, sides, cloud.colours, strict=True
    ):
        for row, column in itertools.product(range(y, y + int(side)), range(x, x + int(side))):
            if 0 <= row < 60 and 0 <= column < 80 and 0 < near < depth[row, column]:
                expected[row, column], depth[row, column] = colour, near
    assert sides.max() > 1
    assert torch.equal(render(cloud, view, (0, 0, 0)), expected)


def test_points_behind_or_outside_are_not_drawn():
    image = render(cloud_of([[0.0, 0, -1], [9.0, 0, 1], [0.0, -9, 1]], [[255] * 3] * 3), VIEW, (7, 8, 9))
    assert (image == torch.tensor([7, 8, 9])).all()


def test_nearer_points_are_drawn_larger():
    def covered(depth: float) -> int:
        return int((render(cloud_of([[0.0, 0, depth]], [[255] * 3], 0.3), VIEW, (0, 0, 0)) > 0).any(-1).sum())

    assert covered(1.0) > covered(3.0) > 0


def test_seen_from_its_own_camera_a_frame_is_itself():
    scene = make_scene(frames=1)
    view = View(torch.eye(4), float(scene.cameras.K_px[0, 0, 0]), 32, 48)
    image = render(every_point(scene), view, (0, 0, 0))
    inside = scene.mask[0]
    close = (image.int() - scene.frames[0].int()).abs().amax(-1) <= 8  # a pixel's neighbour at most
    assert close[inside].float().mean() > 0.9


def test_the_view_projects_as_the_rest_of_the_package_does():
    points = torch.rand(50, 3) + torch.tensor([0.0, 0, 1])
    K = torch.tensor([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]])
    pixels, z = VIEW.project(points)
    expected, depth = project(points, torch.eye(4), K)
    torch.testing.assert_close(pixels, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(z, depth)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.6, 0.35), (0.0, 1.1), (-1.0, 0.0)])
def test_a_framed_view_holds_the_points_and_every_camera(scene: Scene, azimuth: float, elevation: float):
    cloud = every_point(scene)
    view = frame_view(cloud.points, scene.cameras.centres, azimuth, elevation, 200, 300)
    for points, share in ((cloud.points, 0.98), (scene.cameras.centres, 1.0)):
        pixels, z = view.project(points)
        inside = (z > 0) & (pixels >= 0).all(-1) & (pixels <= torch.tensor([300, 200])).all(-1)
        assert inside.float().mean() >= share
    spread = view.project(cloud.points)[0].amax(0) - view.project(cloud.points)[0].amin(0)
    assert (spread / torch.tensor([300, 200])).max() > 0.4


def test_from_the_left_the_left_is_nearer(scene: Scene):
    sides = torch.tensor([[-1.0, 0, 2], [1.0, 0, 2], [0.0, 0, 3], [0.0, 1, 2]])
    _, z = frame_view(sides, torch.zeros(1, 3), 0.6, 0.3, 100, 100).project(sides)
    assert z[0] < z[1]
    pixels, _ = frame_view(sides, torch.zeros(1, 3), 0.0, 1.2, 100, 100).project(sides)
    assert pixels[2, 1] < pixels[0, 1]  # seen from above, far is up


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 32), (2, 32, 64), (17, 16, 16)])
def test_sheets_of_any_clip_have_one_width(frames: int, height: int, width: int):
    sheet = sheet_of(make_scene(frames, height, width))
    assert sheet.mode == "RGB"
    assert sheet.width == WIDTH


def test_a_scene_without_valid_points_still_has_a_sheet(scene: Scene):
    sheet = sheet_of(replace(scene, mask=torch.zeros_like(scene.mask)))
    assert sheet.getpixel((WIDTH // 4, sheet.height - 100)) == CLOUD_BACKGROUND


def test_still_cameras_have_a_sheet():
    scene = make_scene(frames=3)
    still = Cameras(torch.eye(4).repeat(3, 1, 1), scene.cameras.K_px, 32, 48)
    assert sheet_of(replace(scene, cameras=still)).width == WIDTH


def test_a_sky_far_behind_the_scene_shrinks_no_view_of_it(scene: Scene):
    depth, masked = scene.depth.clone(), scene.mask.clone()
    depth[:, 0], masked[:, 0] = 1000, False
    points = unproject(depth, scene.cameras.T_world_camera, scene.cameras.K_px)
    with_sky, without = (
        np.asarray(sheet_of(s))[-400:]
        for s in (replace(scene, depth=depth, points=points), replace(scene, mask=masked))
    )
    shown = [(view != CLOUD_BACKGROUND).any(-1).mean() for view in (with_sky, without)]
    assert shown[0] == pytest.approx(shown[1], rel=0.1)
