"""scene.html: a scene in one file that any browser opens, offline: Gaussians, cameras, and the path as a film."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.export.gaussians import to_gaussians
from gen3r.export.nodes import (
    FRUSTUM,
    add_frustum,
    add_gaussians,
    add_path,
    camera_colours,
    look_from_behind,
    median_distance,
    picture,
    pose,
)
from gen3r.export.selection import Selection
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.media.images import evenly_spaced

if TYPE_CHECKING:
    import viser

MAX_GAUSSIANS = 150_000  # about 30 bytes of the page each
MAX_FRUSTA = 4
PICTURE, FILM = 96, 240  # pixels of the longer side, in the frusta that stand and in the one that moves
MOVING = (255, 96, 64)


def write(selection: Selection, path: Path) -> None:
    """Writes the page with at most `MAX_GAUSSIANS`."""
    path.write_text(to_html(selection), encoding="utf-8")


def to_html(selection: Selection) -> str:
    """The page: viser's own client with the scene inside. It loads nothing."""
    scene, options = selection.scene, selection.options
    if options.max_points > MAX_GAUSSIANS:
        selection = Selection(scene, replace(options, max_points=MAX_GAUSSIANS))
    cameras, count = scene.cameras, len(scene.frames)
    size, colours = FRUSTUM * median_distance(scene), camera_colours(count)
    with quiet_server() as server:
        look_from_behind(server, scene)
        if len(selection.pixels):
            add_gaussians(server.scene, "/scene/gaussians", to_gaussians(selection, "opencv"))
        add_path(server.scene, "/scene/path", cameras)
        for i in evenly_spaced(count, min(MAX_FRUSTA, count)):
            frustum = add_frustum(server.scene, f"/scene/frusta/{i + 1}", cameras, i, size, colours[i])
            frustum.image = picture(scene.frames[i], PICTURE)
        moving = add_frustum(server.scene, "/scene/camera", cameras, 0, 1.5 * size, MOVING)
        film = server.get_scene_serializer()
        pictures = [picture(frame, FILM) for frame in scene.frames]
        for i in [*range(count), *range(count - 2, 0, -1)]:  # there and back
            moving.wxyz, moving.position = pose(cameras, i)
            moving.image = pictures[i]
            film.insert_sleep(1 / FRAMES_PER_SECOND)
        return film.as_html()  # light: what is missing is mostly sky


@contextlib.contextmanager
def quiet_server() -> Iterator["viser.ViserServer"]:
    """A server of viser that nobody visits: the place where it keeps a scene. It prints nothing."""
    import viser

    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        yield server
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()
