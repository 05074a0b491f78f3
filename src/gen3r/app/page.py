"""The page of one visitor: a tab to ask for scenes, one with all scenes, and one to look around in a scene."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import viser

from gen3r.app.form import Form
from gen3r.app.guard import take_uploads
from gen3r.app.history import History, load_inputs, load_scene
from gen3r.app.path_view import PathView, look_from_above
from gen3r.app.preview import Preview
from gen3r.app.runner import Runner
from gen3r.app.store import Store
from gen3r.app.uploads import Upload
from gen3r.errors import InputError
from gen3r.export.nodes import UP
from gen3r.jobs import Job
from gen3r.viewer.downloads import tell
from gen3r.viewer.panel import Panel
from gen3r.viewer.scripts import LABELS, run_script
from gen3r.viewer.shown import ShownScene

HELP = (
    "Give **one photo** (the first frame), **two** (the first and the last), **a video**, or **words**. "
    "Files may be dropped on this page."
)
# Gives files that are dropped anywhere to the upload button, one after another; a browser would leave the page for
# them.
DROP = run_script("""
window.ondragover = event => event.preventDefault();
window.ondrop = async event => {
  event.preventDefault();
  for (const file of [...event.dataTransfer.files]) {
    const input = document.querySelector('input[type=file]'), one = new DataTransfer();
    one.items.add(file);
    input.files = one.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
    do await new Promise(done => setTimeout(done, 100)); while (input.nextElementSibling.disabled);
  }
};""")


class Page:
    """What one visitor sees and does."""

    def __init__(self, client: viser.ClientHandle, store: Store, runner: Runner) -> None:
        self._client, self._store, self._runner = client, store, runner
        self._thread = ThreadPoolExecutor(1)
        self._mine: set[str] = set()  # jobs that this visitor waits for
        self._folder: viser.GuiFolderHandle | None = None
        self._shown: ShownScene | None = None
        with client.atomic():  # no button is seen before it works
            self._build()

    def _build(self) -> None:
        client, gui, store, runner = self._client, self._client.gui, self._store, self._runner
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        client.scene.set_up_direction(UP)
        tabs = gui.add_tab_group()
        with tabs.add_tab("Make", icon=viser.Icon.WAND):
            gui.add_markdown(HELP)
            gui.add_html(LABELS + DROP)
            self.form = Form(gui, store.defaults, lambda: self._path_changed())
            self.path = PathView(client, self.form, self._ask, self._later, self._remove_scene)
            make = gui.add_button("Make the scene", icon=viser.Icon.SPARKLES, color="green")
        with tabs.add_tab("Scenes", icon=viser.Icon.HISTORY):
            acts = [self._guarded(act) for act in (self.show, runner.cancel, self.again, runner.delete)]
            self.history = History(gui, store, *acts)
        self._look = tabs.add_tab("Look", icon=viser.Icon.EYE)
        with self._look:
            self._nothing = gui.add_markdown("Choose a scene under **Scenes**.")
        take_uploads(client, self.form.upload, self._guarded(self.form.add_file), lambda text: tell(client, text))
        make.on_click(self._guarded(lambda _: self.make()))

    def make(self) -> None:
        """Puts what is asked for into the queue.

        Raises:
            InputError: it cannot be done.
        """
        name = self._store.submit(self.form.job(), self.form.uploads, self.path.drawn_path())
        self._mine.add(name)
        self.history.choose(name)
        self._client.add_notification("In the queue", "See Scenes for how it goes.", auto_close_seconds=5.0)

    def show(self, name: str) -> None:
        """Shows a scene that is done, with all controls of the viewer."""
        scene, client = load_scene(self._store, name), cast(viser.ViserServer, self._client)
        self.path.clear()
        self._remove_scene()
        self._nothing.visible = False
        self._shown = ShownScene(client, "/scene", scene)
        look_from_above(self._client, self._shown.unit)
        with self._look:
            self._folder = self._client.gui.add_folder(None)
        with self._folder:
            Panel(client, [self._shown], [f"scene-{int(name[:6])}"])

    def again(self, name: str) -> None:
        """Fills the form with the settings and files of an earlier job."""
        job, uploads, drawn = load_inputs(self._store, name)
        if drawn is not None:
            self.path.draw(drawn)
        self.form.fill(job, uploads, drawn is not None)
        self._client.add_notification("The form is filled", "See Make.", auto_close_seconds=5.0)

    def refresh(self) -> None:
        """Shows what has changed in the store."""
        self.history.refresh()
        states = self._store.states()
        for name in [name for name in self._mine if name not in states or states[name].phase not in _OPEN]:
            self._mine.discard(name)
            if name in states and states[name].phase == "done":
                self._later(self.show, name)
            elif name in states and states[name].phase == "failed":
                tell(self._client, states[name].message)

    def _ask(self, job: Job, uploads: Sequence[Upload]) -> "Future[Preview]":
        return self._runner.preview(job, uploads)

    def _later(self, act: Callable[[Any], object], argument: Any) -> None:
        """Does something of this visitor's, one after another; Python waits for it before it ends."""
        self._thread.submit(self._guarded(act), argument)

    def _path_changed(self) -> None:
        if hasattr(self, "path"):  # not while the form is being made
            self.path.update()

    def _remove_scene(self) -> None:
        if self._shown is not None and self._folder is not None:
            self._client.scene.remove_click_callback()
            self._shown.remove()
            self._folder.remove()
            self._nothing.visible = True
        self._shown = self._folder = None

    def _guarded(self, act: Callable[[Any], object]) -> Callable[[Any], None]:
        """The same, but what goes wrong is told to the visitor."""

        def guarded(argument: Any) -> None:
            with told_to(self._client):
                act(argument)

        return guarded


_OPEN = ("waiting", "running")


@contextmanager
def told_to(client: viser.ClientHandle) -> Iterator[None]:
    """Bad input becomes a message for the visitor; a mistake of ours becomes one, too, and a traceback here."""
    try:
        yield
    except InputError as error:
        tell(client, str(error))
    except Exception as error:
        traceback.print_exc()
        tell(client, f"something went wrong ({type(error).__name__}); see the terminal")
