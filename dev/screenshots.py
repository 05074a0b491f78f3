"""Makes docs/images/page.png, view.png and app.png: scene.html, `gen3r view` and `gen3r app` in the system's chromium.

python dev/screenshots.py SCENE PHOTO [PROGRAM]
"""

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from gen3r.app.runner import Runner
from gen3r.app.server import App
from gen3r.app.store import Store
from gen3r.checkpoints import model_defaults
from gen3r.export.save import find_scene
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from gen3r.viewer.server import start_server, stop_server
from gen3r.viewer.view import show_scenes

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1280, 720
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
WAIT = 600_000  # milliseconds: without a GPU a picture takes long


def main(path: str, photo: str, program: str | None = None) -> None:
    """Takes all pictures."""
    scene = Scene.load(find_scene(path))
    with sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
        browser = p.chromium.launch(executable_path=program or shutil.which("chromium"), args=SOFTWARE, timeout=WAIT)
        [page] = scene.export(folder, "html")
        take(browser, page.as_uri(), IMAGES / "page.png")
        server = start_server("127.0.0.1", 0, "Gen3R")
        show_scenes(server, {"scene": scene})
        take(browser, f"http://127.0.0.1:{server.get_port()}", IMAGES / "view.png")
        stop_server(server)
        take_app(browser, photo, Path(folder))
        browser.close()


def take_app(browser: Any, photo: str, folder: Path) -> None:
    """The app with a photo in it."""
    store, server = Store(folder / "app", model_defaults("nano")), start_server("127.0.0.1", 0, "Gen3R")
    runner = Runner(store, Gen3RPipeline.from_pretrained)
    runner.start()
    app = App(server, store, runner)

    def add_photo(page: Any) -> None:
        page.locator("input[type=file]").set_input_files(photo)
        page.get_by_text("this is what is known").wait_for()

    take(browser, f"http://127.0.0.1:{server.get_port()}", IMAGES / "app.png", add_photo)
    app.close()
    runner.close()
    stop_server(server)


def take(browser: Any, address: str, path: Path, prepare: Callable[[Any], None] = lambda page: None) -> None:
    """A picture of the page at an address, without its notice that no GPU draws it, in few colours.

    prepare: what is done with the page before.
    """
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.get_by_text("Software WebGL").wait_for()
    page.locator(".mantine-Notification-closeButton").click()
    prepare(page)
    page.screenshot(timeout=WAIT)  # the first one comes before all is drawn
    page.wait_for_timeout(3000)
    shot = Image.open(io.BytesIO(page.screenshot(timeout=WAIT)))
    shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    page.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])
