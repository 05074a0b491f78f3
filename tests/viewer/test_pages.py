"""The pages in a real browser: nothing goes wrong, and what is seen is the scene, the right way up."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pycolmap
import pytest
import torch
import trimesh
from plyfile import PlyData

from gen3r.cameras.formats import read_posed_images
from gen3r.export.nodes import look_from_behind
from gen3r.scene import Scene
from gen3r.viewer.key_frames import pose_matrix
from gen3r.viewer.view import show_scenes
from tests.export.conftest import make_scene
from tests.viewer.conftest import Visit

GREEN, YELLOW, BLUE = (20, 180, 20), (220, 210, 20), (20, 40, 200)


def quartered() -> Scene:
    """A scene that is green on the upper left, yellow on the upper right, and blue below."""
    scene = make_scene()
    height, width = scene.depth.shape[1:]
    frames = torch.tensor(BLUE, dtype=torch.uint8).expand(*scene.frames.shape).clone()
    frames[:, : height // 2, : width // 2] = torch.tensor(GREEN, dtype=torch.uint8)
    frames[:, : height // 2, width // 2 :] = torch.tensor(YELLOW, dtype=torch.uint8)
    return replace(scene, frames=frames)


def places(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float, int]:
    """Mean row and column of a colour, and the number of its pixels."""
    rows, columns = np.nonzero((abs(pixels.astype(int) - colour) < 25).all(-1))
    return (float(rows.mean()), float(columns.mean()), len(rows)) if len(rows) else (0.0, 0.0, 0)


def shows_all(pixels: np.ndarray) -> bool:
    return all(places(pixels, colour)[2] > 200 for colour in (GREEN, YELLOW, BLUE))


def test_the_page_shows_the_scene_offline_and_upright(browser: Any, tmp_path: Path):
    [path] = quartered().export(tmp_path, "html")
    with Visit(browser, path.as_uri(), offline=True) as visit:
        pixels = visit.wait_for_pixels(shows_all)
        green, yellow, blue = (places(pixels, colour) for colour in (GREEN, YELLOW, BLUE))
        assert green[0] < blue[0]
        assert green[1] < yellow[1]
        assert visit.errors == []
        assert [r for r in visit.requests if not r.startswith(("file:", "data:", "blob:"))] == []
        assert path.stat().st_size < 1.2e6


def test_the_viewer_is_used(browser: Any, server: Any, tmp_path: Path):
    panel = show_scenes(server, {"1 wall": quartered()})
    with Visit(browser, f"http://127.0.0.1:{server.get_port()}", 1000, 480) as visit:
        page = visit.page
        page.get_by_text("Measure").wait_for()
        assert page.get_by_role("slider", name="Frame", exact=True).count() == 1
        assert page.get_by_role("textbox", name="Most points").count() == 1
        [client] = server.get_clients().values()
        ruler, clicks = panel.rulers["1 wall"], [(270, 340), (590, 300)]
        page.keyboard.down("Shift")
        for number, (x, y) in enumerate(clicks, 1):
            page.mouse.click(x, y)
            visit.wait_for(lambda number=number: len(ruler.picked) == number)
        page.keyboard.up("Shift")
        T = pose_matrix(client.camera.wxyz, client.camera.position)
        x, y, z = (T.inverse()[:3, :3] @ torch.stack([place for _, place in ruler.picked]).T) + T.inverse()[:3, 3:]
        focal = 240 / math.tan(client.camera.fov / 2)
        np.testing.assert_allclose(torch.stack([focal * x / z + 500, focal * y / z + 240], 1), clicks, atol=8)
        page.get_by_text("Look through the camera").click()
        visit.wait_for(lambda: not panel.shown.moving.visible)  # it would hide the scene
        page.get_by_text("Camera path").click()
        page.get_by_role("button", name="Add this view").click()
        page.get_by_text("Files", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save cameras.json").click()
        cameras = read_posed_images(download.value.path())
        np.testing.assert_allclose(cameras.T_world_camera[0, :3, 3], client.camera.position, atol=1e-5)
        assert len(panel.key_frames["1 wall"]) == 1
        with page.expect_download() as download:
            page.get_by_role("button", name="Export", exact=True).click()
        assert len(PlyData.read(str(download.value.path()))["vertex"].data) == len(panel.shown.selection.pixels)
        for name, opened in (("glb", open_glb), ("colmap", open_colmap)):
            page.get_by_label("Format").click()
            page.get_by_role("option", name=name, exact=True).click()
            with page.expect_download() as download:
                page.get_by_role("button", name="Export", exact=True).click()
            opened(Path(download.value.path()), tmp_path)
        assert visit.errors == []


def open_glb(path: Path, _: Path) -> None:
    with path.open("rb") as file:
        assert trimesh.load(file, file_type="glb").geometry


def open_colmap(path: Path, folder: Path) -> None:
    with ZipFile(path) as file:
        file.extractall(folder)
    model = pycolmap.Reconstruction(str(folder / "colmap" / "sparse" / "0"))
    assert model.num_reg_images() == 5
    assert model.compute_mean_reprojection_error() < 0.5


@pytest.mark.nightly
def test_the_viewer_shows_the_scene(browser: Any, server: Any):
    show_scenes(server, {"1 wall": quartered()})
    with Visit(browser, f"http://127.0.0.1:{server.get_port()}", 1280, 720) as visit:
        green, yellow, blue = (places(visit.wait_for_pixels(shows_all), colour) for colour in (GREEN, YELLOW, BLUE))
        assert green[0] < blue[0]
        assert green[1] < yellow[1]
        assert visit.errors == []


@pytest.mark.nightly
def test_the_viewer_fits_a_phone(browser: Any, server: Any):
    show_scenes(server, {"1 wall": make_scene(), "2 wall": make_scene()})
    with Visit(browser, f"http://127.0.0.1:{server.get_port()}", 390, 800) as visit:
        visit.page.get_by_text("Look through the camera").wait_for()
        wide = visit.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        assert visit.errors == []


def test_the_first_view_is_behind_the_first_camera(server: Any):
    look_from_behind(server, make_scene())
    position, target = server.initial_camera.position, server.initial_camera.look_at
    assert position[2] < 0 < target[2]
    assert position[1] < 0  # above: y points down
