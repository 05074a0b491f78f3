"""The pages in a real browser: nothing goes wrong, and what is seen is the scene, the right way up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plyfile import PlyData

from gen3r.cameras.formats import read_posed_images
from gen3r.export.nodes import look_from_behind
from gen3r.scene import Scene
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


def test_the_viewer_is_used(browser: Any, server: Any):
    panel = show_scenes(server, {"1 wall": quartered()})
    with Visit(browser, f"http://127.0.0.1:{server.get_port()}", 640, 480) as visit:
        page = visit.page
        page.get_by_text("Look through the camera").click()
        visit.wait_for(lambda: not panel.shown.moving.visible)  # it would hide the scene
        page.get_by_text("Camera path").click()
        page.get_by_role("button", name="Add this view").click()
        page.get_by_text("Files", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save cameras.json").click()
        cameras = read_posed_images(download.value.path())
        [client] = server.get_clients().values()
        np.testing.assert_allclose(cameras.T_world_camera[0, :3, 3], client.camera.position, atol=1e-5)
        assert len(panel.key_frames["1 wall"]) == 1
        with page.expect_download() as download:
            page.get_by_role("button", name="Export", exact=True).click()
        assert len(PlyData.read(str(download.value.path()))["vertex"].data) == len(panel.shown.selection.pixels)
        assert visit.errors == []


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
