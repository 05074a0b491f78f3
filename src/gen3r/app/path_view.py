"""The camera path before sampling: the photos' points in their first depth, and a path through them, drawn by hand."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import viser

from gen3r.app.form import Form
from gen3r.app.preview import Preview
from gen3r.app.uploads import Upload
from gen3r.cameras.camera import Cameras
from gen3r.cameras.names import BETWEEN
from gen3r.errors import InputError
from gen3r.export.nodes import FOV, FRUSTUM, UP, VIEW, add_frustum, add_path, camera_colours, pose, shape
from gen3r.export.options import ExportOptions
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.jobs import Job
from gen3r.media.images import evenly_spaced
from gen3r.viewer.key_frames import KeyFrames, Lens, pose_matrix
from gen3r.viewer.shown import ShownScene

MAX_POINTS, MAX_FRUSTA = 200_000, 7
ALL_POINTS = ExportOptions(unsure=0, outliers=0, max_points=MAX_POINTS)
STILL = "still"
Later = Callable[[Callable[[Any], object], Any], None]
Ask = Callable[[Job, Sequence[Upload]], "Future[Preview]"]


class PathView:
    """One visitor's view of the path that the form asks for.

    ask: starts a preview. later: does something in a thread of the visitor's. on_show: called when something is shown.
    """

    def __init__(
        self, client: viser.ClientHandle, form: Form, ask: Ask, later: Later, on_show: Callable[[], None]
    ) -> None:
        self._client, self._form, self._ask, self._later, self._on_show = client, form, ask, later, on_show
        self._lock = threading.RLock()
        self._preview: Preview | None = None
        self._keys: KeyFrames | None = None
        self._ends: list[torch.Tensor] = []  # the camera of the second photo
        self._next_views: list[torch.Tensor] = []  # views for the next drawing
        self._nodes: list[ShownScene | viser.SceneNodeHandle | KeyFrames] = []
        self._shown: tuple[object, ...] | None = None
        self._pending = False
        gui = client.gui
        self._note = gui.add_markdown("")
        with gui.add_folder("Camera path"):
            self.fly = gui.add_button("Fly along", icon=viser.Icon.PLAYER_PLAY)
            self.home = gui.add_button("Look from the first camera", icon=viser.Icon.HOME)
            self.add = gui.add_button("Add this view", icon=viser.Icon.CAMERA_PLUS, visible=False)
            self.remove = gui.add_button("Remove the last view", visible=False)
        self.home.on_click(lambda _: self._look(0))
        self.fly.on_click(lambda _: self._fly())
        self.add.on_click(lambda _: self._add())
        self.remove.on_click(lambda _: self._set_views(self._views()[:-1]))

    def update(self) -> None:
        """Shows the path that the form asks for now, as soon as the model can tell."""
        with self._lock:
            self.add.visible = self.remove.visible = self._form.drawn
            if self._pending:
                return
            try:
                job, wanted = self._wanted()
                if wanted == self._shown:
                    return
                self.clear()
                if not self._form.uploads and not str(job.request.prompt):
                    self._note.content = ""
                    return
                future = self._ask(job, self._form.uploads)
            except InputError as error:
                self._note.content = f"*{error}*"
                return
            self._shown, self._pending = wanted, True
            self._note.content = "*finding the depth and the cameras ...*"
            future.add_done_callback(lambda f: self._later(self._done, f))

    def clear(self) -> None:
        """Removes what is shown."""
        with self._lock:
            for node in self._nodes:
                node.remove()
            self._nodes = []
            self._preview = self._keys = self._shown = None

    def drawn_path(self) -> Cameras | None:
        """The key frames, where the form asks for a drawn path.

        Raises:
            InputError: there are none yet.
        """
        if not self._form.drawn:
            return None
        with self._lock:
            if self._keys is None or not self._views():
                raise InputError("the path is not drawn yet: fly to a view and press Add this view")
            return self._keys.keys()

    def draw(self, keys: Cameras) -> None:
        """Takes the views of a path that was drawn before, as soon as its scene is shown."""
        with self._lock:
            self._next_views = list(keys.T_world_camera)

    def _wanted(self) -> tuple[Job, tuple[object, ...]]:
        """The job to preview, and what of it changes the preview."""
        job, photos = self._form.job(), [x for x in self._form.uploads if not x.is_video]
        if self._form.drawn:
            job = replace(job, camera=BETWEEN if len(photos) == 2 else STILL)
        request = job.request
        return job, (
            *map(id, self._form.uploads), self._form.drawn, job.camera, job.size, request.extent, request.easing,
            request.num_frames, request.output_size, bool(request.prompt),
        )  # fmt: skip

    def _done(self, future: "Future[Preview]") -> None:
        with self._lock:
            self._pending = False
            try:
                if self._wanted()[1] != self._shown:
                    self.update()
                    return
                self._show(future.result())
            except InputError as error:
                self._note.content = f"*{error}*"

    def _show(self, preview: Preview) -> None:
        client, path, scene = self._client, preview.path, preview.scene
        self._preview = preview
        unit = 1.0
        client.scene.set_up_direction(UP)
        self._note.content = f"*{len(path)} cameras; this is what is known before the scene is made*"
        if scene is not None:
            shown = ShownScene(cast(viser.ViserServer, client), "/photos", scene)
            self._nodes.append(shown)
            shown.draw(ALL_POINTS)
            shown.show_cameras(False)
            unit = shown.unit
        if self._form.drawn:
            self._ends = [path.T_world_camera[-1]] if len(self._form.uploads) == 2 else []
            lens = Lens(path.K_px[0], path.height, path.width)
            self._keys = KeyFrames(cast(viser.ViserServer, client), "/path", lens, unit, self._changed)
            self._nodes.append(self._keys)
            self._set_views(self._next_views)
            self._next_views = []
        else:
            colours = camera_colours(len(path))
            self._nodes.append(client.scene.add_frame("/path", show_axes=False))
            add_path(client.scene, "/path/line", path)
            for i in evenly_spaced(len(path), min(MAX_FRUSTA, len(path))):
                add_frustum(client.scene, f"/path/{i + 1}", path, i, FRUSTUM * unit, colours[i])
        look_from_above(client, unit)
        self._on_show()

    def _views(self) -> list[torch.Tensor]:
        """The views between the photos' own."""
        if self._keys is None:
            return []
        poses = list(self._keys.keys().T_world_camera)
        return poses[1 : len(poses) - len(self._ends)]

    def _set_views(self, views: list[torch.Tensor]) -> None:
        with self._lock:
            if self._keys is not None and self._preview is not None:
                self._keys.set([self._preview.path.T_world_camera[0], *views, *self._ends])
                count = 1 + len(views) + len(self._ends)
                self._note.content = f"*{count} view{'s' * (count > 1)}, the photos' own among them*"

    def _changed(self) -> None:
        """The photos' own cameras stay where they are."""
        with self._lock:
            if self._keys is None or self._preview is None:
                return
            poses, views = self._keys.keys().T_world_camera, self._views()
            if not torch.equal(poses, torch.stack([self._preview.path.T_world_camera[0], *views, *self._ends])):
                self._set_views(views)

    def _add(self) -> None:
        camera = self._client.camera
        self._set_views([*self._views(), pose_matrix(camera.wxyz, camera.position)])

    def _path(self) -> Cameras | None:
        """All cameras of the path that is shown."""
        with self._lock:
            if self._keys is not None and self._preview is not None:
                return self._keys.cameras(len(self._preview.path))
            return None if self._preview is None else self._preview.path

    def _look(self, number: int) -> None:
        path = self._path()
        if path is None:
            return
        wxyz, position = pose(path, number)
        with self._client.atomic():
            self._client.camera.wxyz, self._client.camera.position = wxyz, position
            self._client.camera.fov = shape(path, number)[0]

    def _fly(self) -> None:
        path = self._path()
        for i in range(len(path or ())):
            self._look(i)
            threading.Event().wait(1 / FRAMES_PER_SECOND)


def look_from_above(client: viser.ClientHandle, unit: float) -> None:
    """The first view of a visitor: the scene with its cameras, from behind and above the first one.

    unit: the median distance of the scene's points.
    """
    camera = client.camera
    with client.atomic():
        camera.up_direction = np.array((0.0, -1.0, 0.0))
        camera.position = unit * np.array(VIEW)
        camera.look_at = np.array((0.0, 0.0, unit))
        camera.fov = FOV
