"""What a visitor takes home: exports, pictures and videos, made in a temporary folder and sent to the browser."""

import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from gen3r.errors import InputError
from gen3r.export.formats import FORMATS, check_formats
from gen3r.export.options import ExportOptions
from gen3r.export.save import export_scene
from gen3r.export.video import write_video
from gen3r.scene import Scene

if TYPE_CHECKING:
    import viser
    from torch import Tensor

LONGEST_WAIT = 30.0  # seconds for a browser's picture


def available_formats() -> list[str]:
    """The formats of `gen3r export` whose libraries are installed."""

    def works(name: str) -> bool:
        try:
            check_formats([name])
        except InputError:
            return False
        return True

    return [name for name in FORMATS if works(name)]


def export_file(scene: Scene, name: str, options: ExportOptions) -> tuple[str, bytes]:
    """File name and content of an export; a folder becomes a zip. Errors as `export_scene`."""
    with tempfile.TemporaryDirectory() as folder:
        [path] = export_scene(scene, [name], Path(folder) / "out", options)
        if path.is_dir():
            path = Path(shutil.make_archive(f"{folder}/{path.name}", "zip", path.parent, path.name))
        return path.name, path.read_bytes()


def video_file(frames: "Tensor") -> bytes:
    """The content of an MP4 of frames uint8 [F, H, W, 3]."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(frames, Path(folder) / "video.mp4")
        return (Path(folder) / "video.mp4").read_bytes()


def screenshot(client: "viser.ClientHandle") -> bytes:
    """A PNG of what a visitor sees, in the size of the browser's canvas."""
    camera = client.camera
    pixels = client.get_render(camera.image_height, camera.image_width, transport_format="png", timeout=LONGEST_WAIT)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def told(client: "viser.ClientHandle", doing: str, work: Callable[[], tuple[str, bytes]]) -> None:
    """Does work that ends in a file for the visitor, and says what is being done, or why it cannot be."""
    note = client.add_notification(doing, "", loading=True, with_close_button=False, auto_close_seconds=None)
    try:
        name, content = work()
        client.send_file_download(name, content, save_immediately=True)
    except (InputError, TimeoutError, RuntimeError) as error:
        tell(client, str(error))
    finally:
        note.remove()


def tell(client: "viser.ClientHandle", text: str) -> None:
    """An error for a visitor."""
    client.add_notification("This cannot be done", text, color="red", auto_close_seconds=10.0)
