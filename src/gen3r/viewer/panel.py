"""The controls of `gen3r view`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from viser import Icon

from gen3r.cameras.formats.gen3r import cameras_to_json
from gen3r.errors import InputError
from gen3r.export.formats import FORMATS
from gen3r.export.options import ExportOptions
from gen3r.export.unit import SETTING
from gen3r.viewer.colouring import COLOURINGS
from gen3r.viewer.downloads import available_formats, export_file, screenshot, tell, told, video_file
from gen3r.viewer.key_frames import KeyFrames, Lens, pose_matrix
from gen3r.viewer.measure import Ruler
from gen3r.viewer.playback import Playback, look_through
from gen3r.viewer.shown import ShownScene

if TYPE_CHECKING:
    import viser

MAX_POINTS = 300_000  # that a browser draws well; a slider gives more
HELP = """\
**Drag** turns, **right drag** moves, **wheel** comes closer. **W A S D** fly, **Q E** sink and rise, **arrows** turn.\
"""
# Name of the option: text, largest value, step.
SLIDERS: dict[str, tuple[str, float, float]] = {
    "unsure": ("Least confident share", 0.95, 0.01),
    "edges": ("Edges of depth over", 0.5, 0.01),
    "grazing": ("Seen at less than, degrees", 45.0, 0.5),
    "sky": ("Farther than, medians", 10.0, 0.1),
    "voxel": ("Cube's side", 0.01, 0.0005),
    "outliers": ("Outliers over", 6.0, 0.1),
}


class Panel:
    """All controls, for the scenes that are shown. The path, the ruler and files are of the chosen scene."""

    def __init__(self, server: "viser.ViserServer", scenes: Sequence[ShownScene], names: Sequence[str]) -> None:
        self.server, self.scenes = server, dict(zip(names, scenes, strict=True))
        self.options = ExportOptions(max_points=MAX_POINTS)
        self.key_frames = {name: key_frames_of(server, shown) for name, shown in self.scenes.items()}
        self.rulers = {name: Ruler(server, shown) for name, shown in self.scenes.items()}
        server.gui.add_markdown(HELP)
        self.chosen = server.gui.add_dropdown("Scene", list(names), visible=len(names) > 1)
        self.add_time()
        self.add_points()
        self.add_path()
        self.add_ruler()
        self.add_files()
        for shown in scenes:
            shown.draw(self.options)

    @property
    def shown(self) -> ShownScene:
        """The chosen scene."""
        return self.scenes[self.chosen.value]

    def add_time(self) -> None:
        """Time, and the cameras."""
        gui = self.server.gui
        with gui.add_folder("Time"):
            self.playback = Playback(self.server, lambda: [*self.scenes.values()])
            frames = gui.add_dropdown("Points of", ("all", "up to this one", "this one"), hint="of which frames")
            self.cameras = gui.add_checkbox("Cameras", True, hint="hide the scene from a view that is one of theirs")

        @frames.on_update
        def _(_: Any) -> None:
            for shown in self.scenes.values():
                shown.show_frame(shown.frame, frames.value)

        @self.cameras.on_update
        def _(_: Any) -> None:
            for shown in self.scenes.values():
                shown.show_cameras(self.cameras.value)

        @self.playback.follow.on_update
        def _(_: Any) -> None:
            self.cameras.value = self.cameras.value and not self.playback.follow.value

    def add_points(self) -> None:
        """How points are drawn, and the filters that exports have too."""
        gui = self.server.gui
        with gui.add_folder("Points"):
            kind = gui.add_button_group("Drawn as", ("Gaussians", "points"))
            colouring = gui.add_dropdown("Colour", tuple(COLOURINGS))
            controls = {
                name: gui.add_slider(text, min=0.0, max=most, step=step, initial_value=getattr(self.options, name))
                for name, (text, most, step) in SLIDERS.items()
            }
            count = gui.add_slider("Most points", min=10_000, max=1_000_000, step=10_000, initial_value=MAX_POINTS)
            usual = gui.add_button("Usual values")
        kind.on_click(lambda _: self.draw(kind=kind.value))
        colouring.on_update(lambda _: self.draw(colouring=colouring.value))

        def filtered(_: Any) -> None:
            chosen = {name: float(control.value) for name, control in controls.items()}
            self.options = replace(self.options, **chosen, max_points=int(count.value))
            self.draw(options=self.options)

        for control in (*controls.values(), count):
            control.on_update(filtered)

        @usual.on_click
        def _(_: Any) -> None:
            usually = ExportOptions()
            for name, control in controls.items():
                control.value = float(getattr(usually, name))
            count.value = MAX_POINTS

    def draw(self, **changes: Any) -> None:
        """Draws the points of all scenes anew."""
        for shown in self.scenes.values():
            shown.draw(**changes)

    def add_path(self) -> None:
        """A camera path by key frames, rendered."""
        gui = self.server.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            gui.add_markdown("Fly to a view and add it. Move a key frame by its arrows and arcs.")
            add, remove = gui.add_button("Add this view", icon=Icon.CAMERA_PLUS), gui.add_button("Remove the last")
            frames = gui.add_number("Frames", 49, min=1, max=1000, step=1)
            render = gui.add_button("Render to mp4", icon=Icon.MOVIE, hint="drawn from the frames, not by the browser")
            save = gui.add_button("Save cameras.json", hint="for gen3r generate --camera")

        @add.on_click
        def _(event: "viser.GuiEvent[Any]") -> None:
            if event.client is not None:
                camera = event.client.camera
                T = pose_matrix(camera.wxyz, camera.position - self.shown.offset)
                self.key_frames[self.chosen.value].add(T)

        remove.on_click(lambda _: self.key_frames[self.chosen.value].remove_last())

        def rendered() -> tuple[str, bytes]:
            cameras = self.key_frames[self.chosen.value].cameras(int(frames.value))
            return "path.mp4", video_file(self.shown.scene.render(cameras))

        def saved() -> tuple[str, bytes]:
            cameras = self.key_frames[self.chosen.value].cameras(int(frames.value))
            return "cameras.json", json.dumps(cameras_to_json(cameras)).encode()

        render.on_click(lambda event: event.client and told(event.client, "Rendering the path ...", rendered))
        save.on_click(lambda event: event.client and told(event.client, "Saving ...", saved))

    def add_ruler(self) -> None:
        """The distance of two points, and the scale."""
        gui = self.server.gui
        with gui.add_folder("Measure", expand_by_default=False):
            gui.add_markdown("**Shift and click** on two points.")
            length = gui.add_text("Distance", "-", disabled=True)
            metres = gui.add_number("is in metres", 1.0, min=0.0, step=0.01)
            scale = gui.add_button("Set the scale", hint="of what is exported from here")
            clear = gui.add_button("Clear")

        def say_length() -> None:
            ruler = self.rulers[self.chosen.value]
            known = ruler.shown.scene.settings.get(SETTING)
            if ruler.length is None:
                length.value = f"{len(ruler.picked)} of 2 points" if ruler.picked else "-"
            else:
                length.value = f"{ruler.length * known:.3f} m" if known else f"{ruler.length:.4f} of the scene's unit"

        @self.server.scene.on_click(modifier="shift")
        def _(event: "viser.SceneClickEvent") -> None:
            self.rulers[self.chosen.value].pick(np.array(event.ray_origin), np.array(event.ray_direction))
            say_length()

        @scale.on_click
        def _(event: "viser.GuiEvent[Any]") -> None:
            shown = self.shown
            try:
                known = self.rulers[self.chosen.value].known(float(metres.value))
            except InputError as error:
                if event.client is not None:
                    tell(event.client, str(error))
                return
            shown.scene.settings[SETTING] = known
            say_length()

        @clear.on_click
        def _(_: Any) -> None:
            self.rulers[self.chosen.value].clear()
            say_length()

    def add_files(self) -> None:
        """Screenshot, views and exports."""
        gui = self.server.gui
        with gui.add_folder("Files", expand_by_default=False):
            picture = gui.add_button("Screenshot", icon=Icon.CAMERA)
            back = gui.add_button("Look through the first camera")
            form = gui.add_dropdown("Format", tuple(available_formats()))
            about = gui.add_markdown(FORMATS[form.value].what)
            export = gui.add_button("Export", icon=Icon.DOWNLOAD, hint="with the filters above")

        @form.on_update
        def _(_: Any) -> None:
            about.content = FORMATS[form.value].what

        def exported() -> tuple[str, bytes]:
            return export_file(self.shown.scene, form.value, self.options)

        @picture.on_click
        def _(event: "viser.GuiEvent[Any]") -> None:
            client = event.client
            if client is not None:
                told(client, "Taking a picture ...", lambda: ("view.png", screenshot(client)))

        @back.on_click
        def _(event: "viser.GuiEvent[Any]") -> None:
            if event.client is not None:
                self.cameras.value = False
                look_through(event.client, self.shown, 0)

        export.on_click(lambda e: e.client and told(e.client, f"Writing {form.value} ...", exported))


def key_frames_of(server: "viser.ViserServer", shown: ShownScene) -> KeyFrames:
    """An empty path in a scene, with its first camera's lens."""
    cameras = shown.scene.cameras
    lens = Lens(cameras.K_px[0], cameras.height, cameras.width)
    return KeyFrames(server, f"{shown.name}/drawn_path", lens, shown.unit)
