"""Makes docs/images: scene.html, `gen3r view`, `gen3r app` and three exports, in the system's chromium.

python dev/screenshots.py SCENE PHOTO [NAME ...]        names: page view app glb colmap rgbd; all without
"""

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from gen3r.app.runner import Runner
from gen3r.app.server import App
from gen3r.app.store import Store
from gen3r.cameras.formats import read_cameras
from gen3r.checkpoints import model_defaults
from gen3r.export.nodes import add_frustum, add_path, camera_colours, median_distance, picture
from gen3r.export.page import quiet_server
from gen3r.media.drawing import colour_depth, stacked, strip
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from gen3r.viewer.server import start_server, stop_server
from gen3r.viewer.view import show_scenes

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1280, 720
CLOSE = (-0.22, -0.1, 0.1)  # left of, over and before the first camera: the scene fills the window
NEAR = "?initialCameraPosition={}&initialCameraLookAt={}&initialCameraUp=0,-1,0&initialCameraFov={}"
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
WAIT = 600_000  # milliseconds: without a GPU a picture takes long


def main(path: str, photo: str, *names: str) -> None:
    """Takes all pictures, or those of these names."""
    scene = Scene.load(path)
    takers = {"page": take_page, "view": take_view, "glb": take_glb, "colmap": take_colmap}
    with sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE, timeout=WAIT)
        for name, taker in takers.items():
            if not names or name in names:
                taker(browser, scene, Path(folder))
        if not names or "app" in names:
            take_app(browser, photo, Path(folder))
        if not names or "rgbd" in names:
            draw_rgbd(scene, Path(folder))
        browser.close()


def take_page(browser: Any, scene: Scene, folder: Path) -> None:
    """scene.html, from close to the first camera."""
    [page] = scene.export(folder, "html")
    take(browser, page.as_uri() + near(scene), IMAGES / "page.png")


def take_view(browser: Any, scene: Scene, folder: Path) -> None:
    """`gen3r view`."""
    server = start_server("127.0.0.1", 0, "Gen3R")
    show_scenes(server, {"scene": scene})
    take(browser, f"http://127.0.0.1:{server.get_port()}", IMAGES / "view.png")
    stop_server(server)


def take_glb(browser: Any, scene: Scene, folder: Path) -> None:
    """The mesh of the GLB, as three.js loads it."""
    [file] = scene.export(folder, "glb")
    with quiet_server() as server:
        turn = (0.0, 1.0, 0.0, 0.0)  # about x: glTF's up is y
        server.scene.add_glb("/mesh", file.read_bytes(), wxyz=turn, cast_shadow=False, receive_shadow=False)
        still(browser, server, scene, folder / "glb.html", IMAGES / "glb.png")


def take_colmap(browser: Any, scene: Scene, folder: Path) -> None:
    """The points and images of the COLMAP model, as pycolmap reads them."""
    [model] = scene.export(folder, "colmap")
    found = pycolmap.Reconstruction(str(model / "sparse" / "0"))
    points = [*found.points3D.values()]
    cameras = read_cameras(model / "sparse" / "0")
    unit = median_distance(scene)
    with quiet_server() as server:
        places, colours = np.stack([x.xyz for x in points]), np.stack([x.color for x in points])
        server.scene.add_point_cloud("/points", places, colours, point_size=0.004 * unit, point_shape="circle")
        add_path(server.scene, "/path", cameras)
        files = sorted((model / "images").iterdir())
        for i, colour in enumerate(camera_colours(len(cameras))):
            if i % 4 == 0:
                frustum = add_frustum(server.scene, f"/cameras/{i}", cameras, i, 0.06 * unit, colour)
                frustum.image = picture(torch.from_numpy(np.array(Image.open(files[i]).convert("RGB"))))
        still(browser, server, scene, folder / "colmap.html", IMAGES / "colmap.png", (-0.4, -0.25, -0.3), 0.75)


def draw_rgbd(scene: Scene, folder: Path) -> None:
    """Colours and depth of the RGB-D folder."""
    [place] = scene.export(folder, "rgbd")
    rows = []
    for kind in ("rgb", "depth"):
        files = sorted((place / kind).glob("*.png"))
        images = [np.array(Image.open(files[i])) for i in (0, len(files) // 2, len(files) - 1)]
        frames = torch.from_numpy(np.stack(images).astype(np.uint8 if kind == "rgb" else np.float32))
        rows.append(strip(frames if kind == "rgb" else colour_depth(frames, frames > 0), 3))
    save(stacked(rows), IMAGES / "rgbd.png")


def near(scene: Scene, place: tuple[float, float, float] = CLOSE, fov: float = 0.85) -> str:
    """Parameters of a page: its first view. place: in the scene's median distance. fov: vertical [rad]."""
    unit = median_distance(scene)
    position = ",".join(f"{x * unit:g}" for x in place)
    return NEAR.format(position, f"0,0,{unit:g}", fov) + f"&initialCameraNear={1e-3 * unit:g}"


def still(browser: Any, server: Any, scene: Scene, page: Path, path: Path, *view: Any) -> None:
    """A picture of what stands in a server's scene. view: as in `near`."""
    server.scene.set_up_direction("-y")
    page.write_text(server.get_scene_serializer().as_html(), encoding="utf-8")
    take(browser, page.as_uri() + near(scene, *view), path)


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
    save(shot, path)
    page.close()


def save(image: Image.Image, path: Path) -> None:
    """In few colours, for a small file."""
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
