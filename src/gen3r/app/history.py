"""The tab with all scenes: the queue and what it has made."""

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import viser
from PIL import Image

from gen3r.app.store import CAMERAS, PICTURE, RESULT, State, Store
from gen3r.app.uploads import Upload, check_upload
from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import read_cameras
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.scene import Scene

NONE = "no scenes yet"
PICTURE_WIDTH = 640
_WORDS = {
    "waiting": "waits",
    "running": "is being made",
    "done": "is done",
    "failed": "failed",
    "cancelled": "cancelled",
}


class History:
    """What one visitor sees of all jobs. Every button acts on the chosen one.

    show, cancel, again, delete: what the buttons do, with a job's name.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        store: Store,
        show: Callable[[str], None],
        cancel: Callable[[str], None],
        again: Callable[[str], None],
        delete: Callable[[str], None],
    ) -> None:
        self._gui, self._store = gui, store
        self._names: dict[str, str] = {}
        self._seen: tuple[object, ...] = ()
        self.queue = gui.add_markdown("")
        self.chosen = gui.add_dropdown("Scene", [NONE])
        self.progress = gui.add_progress_bar(0.0, visible=False)
        self._about = gui.add_html("")
        self.picture = gui.add_image(np.zeros((1, 1, 3), np.uint8), visible=False, format="jpeg")
        self.show = gui.add_button("Look at it", icon=viser.Icon.EYE)
        self.cancel = gui.add_button("Cancel", icon=viser.Icon.X)
        self.again = gui.add_button("Again with these settings", icon=viser.Icon.REFRESH)
        self.delete = gui.add_button("Delete", icon=viser.Icon.TRASH, color="red")
        self.chosen.on_update(lambda _: self.refresh())
        for button, act in ((self.show, show), (self.cancel, cancel), (self.again, again)):
            button.on_click(lambda _, act=act: self._act(act))
        self.delete.on_click(lambda _: self._act(lambda name: self._ask_first(name, delete)))
        self.refresh()

    def choose(self, name: str) -> None:
        """Makes a job the chosen one."""
        self.refresh()
        text = next((text for text, other in self._names.items() if other == name), None)
        if text is not None:
            self.chosen.value = text
            self.refresh()

    def refresh(self) -> None:
        """Shows what is so now."""
        states = self._store.states()
        before = self._names.get(self.chosen.value)
        names = {_label(self._store, name): name for name in reversed(states)}
        if names != self._names:
            self._names = names
            self.chosen.options = tuple(names) or (NONE,)
            self.chosen.value = next((text for text, name in names.items() if name == before), self.chosen.options[0])
        phases = [state.phase for state in states.values()]
        self.queue.content = (
            f"{phases.count('running')} in work, {phases.count('waiting')} waiting, {len(phases)} in all"
        )
        name = self._names.get(self.chosen.value)
        self._show(name, states.get(name or ""))

    def _show(self, name: str | None, state: State | None) -> None:
        phase = None if state is None else state.phase
        self.show.visible = phase == "done"
        self.cancel.visible = phase in ("waiting", "running")
        self.again.visible = self.delete.visible = state is not None
        self.progress.visible = phase == "running"
        if name is None or state is None:
            self._about.content, self.picture.visible = "", False
            return
        self.progress.animated = state.step in (0, state.steps)
        self.progress.value = 100 * state.step / max(state.steps, 1) if state.step else 100.0
        self._about.content = _about(self._store, name, state)
        folder = self._store.path(name)
        file = folder / RESULT / "preview.png" if phase == "done" else folder / PICTURE
        seen = (name, file, file.stat().st_mtime_ns if file.exists() else None)
        if seen != self._seen:
            self._seen = seen
            self.picture.visible = file.exists()
            if file.exists():
                self.picture.image = _picture(file)

    def _act(self, act: Callable[[str], None]) -> None:
        name = self._names.get(self.chosen.value)
        if name is not None:
            act(name)

    def _ask_first(self, name: str, delete: Callable[[str], None]) -> None:
        with self._gui.add_modal("Delete this scene with all its files?") as modal:
            yes = self._gui.add_button("Delete", color="red")
            no = self._gui.add_button("Keep")
        no.on_click(lambda _: modal.close())

        @yes.on_click
        def _(_: object) -> None:
            modal.close()
            delete(name)


def load_inputs(store: Store, name: str) -> tuple[Job, list[Upload], Cameras | None]:
    """A job's settings, files and drawn path, for another one."""
    job = store.job(name)
    try:
        uploads = [check_upload(path.read_bytes()) for path in job.inputs]
    except OSError as error:
        raise InputError("the files of this scene are not there any more") from error
    drawn = store.path(name) / CAMERAS
    return job, uploads, read_cameras(drawn) if drawn.exists() else None


def load_scene(store: Store, name: str) -> Scene:
    """The scene that a job made."""
    return Scene.load(store.path(name) / RESULT)


def _label(store: Store, name: str) -> str:
    """What a job is called in the list: its number, path, and words."""
    try:
        job = store.job(name)
    except InputError:
        return f"{int(name[:6])} (unreadable)"
    camera = Path(job.camera).stem if job.camera else ""
    what = " ".join(str(job.request.prompt).split())[:40] or {1: "a photo", 2: "two photos"}.get(len(job.inputs), "")
    return " · ".join(x for x in (str(int(name[:6])), camera.replace("cameras", "drawn"), what) if x)


def _about(store: Store, name: str, state: State) -> str:
    """What there is to say about a job, as HTML."""
    words = f"This scene {_WORDS[state.phase]}" if state.phase != "cancelled" else "This scene was cancelled"
    if state.phase == "running":
        words += f": {state.doing or 'it begins'}" + (f", {state.step} of {state.steps}" if state.step else "")
    if state.message:
        words += f": {state.message}"
    try:
        settings = {k: v for k, v in store.job(name).to_json().items() if k not in ("inputs", "prompt")}
        prompt = str(store.job(name).request.prompt)
    except InputError as error:
        settings, prompt = {}, str(error)
    lines = [f"<b>{html.escape(words)}</b>", *([html.escape(prompt)] if prompt else [])]
    lines += [html.escape(", ".join(f"{k} {Path(v).stem if k == 'camera' else v}" for k, v in settings.items()))]
    return f"<div style='padding:0 0.75em;font-size:0.85em;overflow-wrap:anywhere'>{'<br>'.join(lines)}</div>"


def _picture(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        small = image.convert("RGB")
    small.thumbnail((PICTURE_WIDTH, 10 * PICTURE_WIDTH))
    return np.asarray(small)
