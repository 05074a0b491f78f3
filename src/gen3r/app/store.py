"""The jobs of the app on disk: one folder a job, each file in it whole.

    jobs/000001-5f3a9c01/job.json     the `Job`, as `gen3r generate --request` reads it
                         input-0.png  what was sent, under names of our own
                         cameras.json the camera path, if it was drawn
                         state.json   the `State`
                         picture.png  the picture that forms
                         scene/       the result; a job with a scene is done, whatever happened to the server

The server alone writes states. A folder serves one server at a time.
"""

import json
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from gen3r.app.uploads import Upload
from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import write_cameras
from gen3r.cameras.names import BETWEEN, FREE, PATHS
from gen3r.errors import InputError
from gen3r.files import whole_folder, write_text
from gen3r.jobs import Job

JOB, STATE, CAMERAS, PICTURE, RESULT = "job.json", "state.json", "cameras.json", "picture.png", "scene"
Phase = Literal["waiting", "running", "done", "failed", "cancelled", "deleted"]
MAX_WAITING = 20
MAX_TEXT, MAX_FRAMES, MAX_SIDE, MAX_OUTPUT, MAX_STEPS = 2000, 121, 1120, 2048, 200
_MAX_DEATHS = 2  # of workers over one job


@dataclass(frozen=True)
class State:
    """phase: "deleted" for what goes as soon as no worker is on it. doing: what the worker does. step, steps: how much
    of that is done, and of how much. message: of failure. deaths: workers that died over this job."""

    phase: Phase = "waiting"
    doing: str = ""
    step: int = 0
    steps: int = 0
    message: str = ""
    deaths: int = 0


class Store:
    """Jobs by name, oldest first. Names are given out here: what a browser sends is looked up, never made a path."""

    def __init__(self, folder: Path, defaults: Mapping[str, Any]) -> None:
        """Opens or makes a folder of jobs. defaults: of the model that will run them.

        Raises:
            InputError: another server has the folder, or it cannot be written to.
        """
        self.folder, self.defaults, self.version = folder.resolve(), defaults, 0
        self._jobs = self.folder / "jobs"
        try:
            self._jobs.mkdir(parents=True, exist_ok=True)
            self._lock_file = FileLock(self.folder / "server.lock", thread_local=False)
            self._lock_file.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"another gen3r app works in {folder}; stop it, or give another --folder") from error
        except OSError as error:
            raise InputError(f"{folder} cannot be used ({error.strerror}); give another --folder") from error
        self._changed = threading.Condition(threading.RLock())
        self._states: dict[str, State] = {}
        self._running: str | None = None
        with self._changed:
            for path in sorted(self._jobs.iterdir()):
                self._recover(path)

    def close(self) -> None:
        """Leaves the folder to another server."""
        self._lock_file.release()

    def _recover(self, path: Path) -> None:
        """Takes up a job where an earlier server left it."""
        if not re.fullmatch(r"\d{6}-[0-9a-f]{8}", path.name) or not (path / JOB).is_file():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            return
        try:
            state = State(**json.loads((path / STATE).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            state = State()
        if state.phase == "deleted":
            self._remove(path)
            return
        if (path / RESULT).is_dir():
            state = replace(state, phase="done", message="")
        elif state.phase == "running":
            state = replace(state, phase="waiting", step=0, doing="")
        self._states[path.name] = State()
        self._set(path.name, state)

    # What the page asks for.

    def states(self) -> dict[str, State]:
        """All jobs, oldest first."""
        with self._changed:
            return {name: state for name, state in self._states.items() if state.phase != "deleted"}

    def path(self, name: str) -> Path:
        """The folder of a job.

        Raises:
            InputError: there is no such job (any more).
        """
        with self._changed:
            if name not in self._states or self._states[name].phase == "deleted":
                raise InputError("this scene was deleted")
            return self._jobs / name

    def job(self, name: str) -> Job:
        """A job, with the paths of its files."""
        return Job.load(self.path(name) / JOB)

    def submit(self, job: Job, uploads: Sequence[Upload] = (), cameras: Cameras | None = None) -> str:
        """Puts a job at the end of the queue; returns its name. Arguments and errors as `write_job`.

        Raises:
            InputError: the queue is full.
        """
        with self._changed:
            waiting = sum(state.phase == "waiting" for state in self._states.values())
            if waiting >= MAX_WAITING:
                raise InputError(f"{waiting} scenes are waiting; cancel one, or come back later")
            last = max((int(name[:6]) for name in self._states), default=0)
            name = f"{last + 1:06d}-{secrets.token_hex(4)}"
            write_job(self._jobs / name, self.defaults, job, uploads, cameras)
            self._states[name] = State()
            self._notify()
        return name

    def cancel(self, name: str) -> None:
        """A waiting or running job will not be done; a job that has ended stays as it is."""
        with self._changed:
            self.path(name)
            if self._states[name].phase in ("waiting", "running"):
                self._set(name, replace(self._states[name], phase="cancelled"))

    def delete(self, name: str) -> None:
        """Removes a job with all its files; one that is running, as soon as its worker has let go of it."""
        with self._changed:
            path = self.path(name)
            self._set(name, replace(self._states[name], phase="deleted"))
            if name != self._running:
                del self._states[name]
                self._remove(path)

    # What the runner asks for.

    def folder_of(self, name: str) -> Path:
        """The folder of a job that is running, even if it was deleted meanwhile."""
        return self._jobs / name

    def phase(self, name: str) -> Phase:
        """Of a job that is running, even if it was deleted meanwhile."""
        with self._changed:
            return self._states[name].phase

    def take(self) -> str | None:
        """The oldest waiting job, which is then running; None where there is none."""
        with self._changed:
            name = next((n for n, state in self._states.items() if state.phase == "waiting"), None)
            if name is not None:
                self._running = name
                self._set(name, replace(self._states[name], phase="running", step=0, doing=""))
            return name

    def progress(self, name: str, step: int, steps: int, doing: str) -> None:
        """The running job is at this step of what is done."""
        with self._changed:
            self._set(name, replace(self._states[name], step=step, steps=steps, doing=doing))

    def finish(self, name: str, message: str = "") -> None:
        """The worker has let go of the running job: done if there is a scene, cancelled if that was asked for, else
        failed with this message."""
        with self._changed:
            self._running = None
            state, path = self._states[name], self._jobs / name
            if state.phase == "deleted":
                del self._states[name]
                self._remove(path)
            elif (path / RESULT).is_dir():
                self._set(name, replace(state, phase="done", message=""))
            elif state.phase == "running":
                self._set(name, replace(state, phase="failed", message=message))
            self._notify()

    def died(self, name: str) -> None:
        """The worker died over the running job, which waits again, the first time."""
        with self._changed:
            state = replace(self._states[name], deaths=self._states[name].deaths + 1)
            self._states[name] = state
            if state.phase == "running" and state.deaths < _MAX_DEATHS and not (self._jobs / name / RESULT).is_dir():
                self._running = None
                self._set(name, replace(state, phase="waiting", step=0, doing=""))
            else:
                self.finish(name, "the model's process died twice; there may be too little memory for these settings")

    def wait(self, until: Callable[[], Any], timeout: float | None = None) -> Any:
        """Blocks until `until`, asked at every change, is true; returns what it returned."""
        with self._changed:
            return self._changed.wait_for(until, timeout)

    def notify(self) -> None:
        """Wakes what waits: something changed that is not a state."""
        with self._changed:
            self._notify()

    def _notify(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def _set(self, name: str, state: State) -> None:
        if state != self._states[name]:
            write_text(json.dumps(asdict(state)), self._jobs / name / STATE)
            self._states[name] = state
            self._notify()

    def _remove(self, path: Path) -> None:
        """Removes a job's folder, which is a job no more from the first moment."""
        gone = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        self._notify()


def write_job(
    folder: Path,
    defaults: Mapping[str, Any],
    job: Job,
    uploads: Sequence[Upload] = (),
    cameras: Cameras | None = None,
) -> None:
    """Writes a job and its files into a new folder, whole, or not at all.

    job: without inputs, and with a camera path by name at most. uploads: its inputs. cameras: a drawn path, in place
    of a name.

    Raises:
        InputError: no model, or not this one, can do the job; or it asks for more than this app allows.
    """
    if job.inputs or job.camera not in (None, FREE, BETWEEN, *PATHS):
        raise InputError("choose a camera path of the list")
    _check_bounds(job)
    names = [f"input-{i}{upload.suffix}" for i, upload in enumerate(uploads)]
    job = replace(job, inputs=tuple(map(Path, names)), camera=job.camera if cameras is None else CAMERAS)
    with whole_folder(folder) as partial:
        for name, upload in zip(names, uploads, strict=True):
            (partial / name).write_bytes(upload.content)
        if cameras is not None:
            write_cameras(cameras, partial / CAMERAS)
        write_text(json.dumps(job.to_json(), indent=2), partial / JOB)
        written = Job.load(partial / JOB)
        written.check()
        written.resolve(defaults)


def _check_bounds(job: Job) -> None:
    """Refuses what would keep the machine busy for others' lifetimes."""
    request = job.request
    texts = [str(request.prompt), str(request.negative_prompt or "")]
    bounds = [
        ("characters of text", max(map(len, texts)), MAX_TEXT),
        ("frames", request.num_frames, MAX_FRAMES),
        ("pixels a side", max(x or 0 for x in job.size), MAX_SIDE),
        ("pixels on the longer side", request.output_size, MAX_OUTPUT),
        ("steps", request.num_inference_steps, MAX_STEPS),
    ]
    for what, value, most in bounds:
        if value is not None and value > most:
            raise InputError(f"this app allows at most {most} {what}, not {value}")
