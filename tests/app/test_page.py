"""The app in a real browser."""

from typing import Any

import numpy as np
import pytest
import torch

from gen3r.app.runner import Runner
from gen3r.app.server import App
from gen3r.app.store import RESULT, Store
from gen3r.cameras.camera import Cameras
from gen3r.scene import Scene
from tests.viewer.conftest import Visit, browser, server  # noqa: F401

from .conftest import photo_bytes

DROPPED = """bytes => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], '../photo.png', {type: 'image/png'}));
  return files;
}"""


def test_a_photo_and_a_drawn_path_become_a_scene(
    browser: Any,  # noqa: F811
    server: Any,  # noqa: F811
    store: Store,
    runner: Runner,
) -> None:
    app = App(server, store, runner)
    runner.start()
    visit = Visit(browser, f"http://127.0.0.1:{server.get_port()}", 900, 720)
    page = visit.page
    page.locator("img[hidden]").first.wait_for(state="attached")
    dropped = page.evaluate_handle(DROPPED, list(photo_bytes()))
    page.dispatch_event("canvas", "drop", {"dataTransfer": dropped})
    page.get_by_text("here the model chooses the cameras").wait_for()
    assert page.get_by_role("textbox", name="Words").count() == 1
    [client] = server.get_clients().values()
    form = app.pages[client.client_id].form
    form.camera.value = "drawn by hand"  # as the dropdown does
    page.get_by_text("1 view,").wait_for()
    page.get_by_role("button", name="Add this view").click()
    page.get_by_text("2 views").wait_for()
    drawn = app.pages[client.client_id].path.drawn_path()
    assert isinstance(drawn, Cameras)
    np.testing.assert_allclose(drawn.centres[1].numpy(), client.camera.position, atol=1e-4)
    page.get_by_role("button", name="Make the scene").click()
    page.get_by_role("tab", name="Scenes").click()
    page.get_by_text("This scene is done").wait_for()
    [name] = store.states()
    made = Scene.load(store.path(name) / RESULT / "scene.safetensors").cameras
    torch.testing.assert_close(made.T_world_camera[[0, -1]], drawn.T_world_camera)
    page.get_by_role("tab", name="Look").click()
    page.get_by_text("Files", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    assert download.value.suggested_filename == "points.ply"
    assert visit.errors == []
    app.close()


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "height"), [(390, 800), (1280, 720)])
def test_the_page_fits(
    browser: Any,  # noqa: F811
    server: Any,  # noqa: F811
    store: Store,
    runner: Runner,
    width: int,
    height: int,
) -> None:
    app = App(server, store, runner)
    visit = Visit(browser, f"http://127.0.0.1:{server.get_port()}", width, height)
    visit.page.get_by_text("Make").first.wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.errors == []
    app.close()
