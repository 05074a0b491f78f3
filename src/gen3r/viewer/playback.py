"""A time slider with a button that plays, for any number of scenes at once."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from viser import Icon

from gen3r.export.nodes import pose, shape
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.viewer.shown import ShownScene

if TYPE_CHECKING:
    import viser


class Playback:
    """Adds its controls where the gui stands. Scenes of fewer frames wait at their last one.

    scenes: asked at every step, so that scenes may come and go.
    """

    def __init__(self, server: "viser.ViserServer", scenes: Callable[[], Sequence[ShownScene]]) -> None:
        self.server, self.scenes = server, scenes
        self._icons = {True: ("Pause", Icon.PLAYER_PAUSE), False: ("Play", Icon.PLAYER_PLAY)}
        self._stopped = threading.Event()
        self._stopped.set()
        gui = server.gui
        self.slider = gui.add_slider("Frame", min=1, max=max(2, self.count), step=1, initial_value=1)
        self.button = gui.add_button("Play", icon=Icon.PLAYER_PLAY)
        self.follow = gui.add_checkbox("Look through the camera", False, hint="the view moves with the frame's camera")
        self.slider.on_update(lambda _: self.show(int(self.slider.value) - 1))
        self.button.on_click(lambda _: self.play() if self._stopped.is_set() else self.pause())
        self.follow.on_update(lambda _: self.show(int(self.slider.value) - 1))

    @property
    def count(self) -> int:
        """Frames of the longest scene."""
        return max((len(s.scene.frames) for s in self.scenes()), default=1)

    def show(self, number: int) -> None:
        """Shows a frame of every scene; with `follow`, every visitor looks through the first scene's camera."""
        scenes = self.scenes()
        for shown in scenes:
            shown.show_frame(min(number, len(shown.scene.frames) - 1))
        if self.follow.value and scenes:
            for client in self._visitors():
                look_through(client, scenes[0], scenes[0].frame)

    def _visitors(self) -> "Iterable[viser.ClientHandle]":
        """All of a server's, or the one whose page this is."""
        clients = getattr(self.server, "get_clients", None)
        return [self.server] if clients is None else clients().values()  # pyright: ignore[reportReturnType]

    def step(self) -> None:
        """One frame on; after the last one, the first."""
        self.slider.value = int(self.slider.value) % self.count + 1

    def play(self) -> None:
        """Plays in the background until `pause`."""
        self._stopped.clear()
        self.button.label, self.button.icon = self._icons[True]
        threading.Thread(target=self._run, daemon=True).start()

    def pause(self) -> None:
        """Stops where it is."""
        self._stopped.set()
        self.button.label, self.button.icon = self._icons[False]

    def _run(self) -> None:
        while not self._stopped.wait(1 / FRAMES_PER_SECOND):
            self.step()


def look_through(client: "viser.ClientHandle", shown: ShownScene, number: int) -> None:
    """Puts a visitor's view where a camera of a scene is."""
    wxyz, position = pose(shown.scene.cameras, number)
    lens, _ = shape(shown.scene.cameras, number)
    with client.atomic():
        client.camera.wxyz = wxyz
        client.camera.position = position + shown.offset
        client.camera.fov = lens
