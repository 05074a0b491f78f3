"""A browser, and a server with a small scene."""

import io
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from gen3r.viewer.server import start_server, stop_server

if TYPE_CHECKING:
    import viser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
# three.js says this of viser's splats, whatever Gaussians they are: the four corners that viser draws each of them with
# have two coordinates, and their third one is no number. Nothing of ours is in it, and they are drawn all the same.
KNOWN = "THREE.BufferGeometry.computeBoundingSphere(): Computed radius is NaN"

COARSE = 0.3  # pixels that are drawn per pixel of the page: without a GPU, drawing takes most of the time


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no browser is installed (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (gen3r[dev])")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=program, args=SOFTWARE, timeout=180_000)
        yield started
        started.close()


@pytest.fixture
def server() -> Iterator["viser.ViserServer"]:
    started = start_server("127.0.0.1", 0, "Gen3R")
    yield started
    stop_server(started)


class Visit:
    """A page in the browser that remembers what went wrong and what was asked of the network."""

    def __init__(self, browser: Any, address: str, width: int = 320, height: int = 240, offline: bool = False) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, offline=offline)
        self.page = self.context.new_page()
        self.page.set_default_timeout(180_000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{address}?fixedDpr={COARSE}")

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()  # a page that stays open goes on drawing

    def _console(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith(KNOWN):
            self.errors.append(message.text)

    def pixels(self) -> np.ndarray:
        """What the page shows, uint8 [h, w, 3]."""
        shot = self.page.screenshot(timeout=180_000)
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))

    def wait_for_pixels(self, shown: Callable[[np.ndarray], bool]) -> np.ndarray:
        """The picture, once a condition on it holds."""
        self.wait_for(lambda: shown(self.pixels()))
        return self.pixels()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns once a condition holds."""
        for _ in range(200):
            if condition():
                return
            self.page.wait_for_timeout(500)
        raise AssertionError("it never came about")
