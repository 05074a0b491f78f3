"""Tasks: checked jobs with an identity, which says whether a scene is there already."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gen3r.batch.table import Line
from gen3r.cameras.camera import Cameras
from gen3r.errors import NO_MEMORY, InputError, out_of_memory
from gen3r.files import file_hash
from gen3r.jobs import Job
from gen3r.media.images import read_image
from gen3r.media.sequence import ImageSequence
from gen3r.options import options_of
from gen3r.request import Request

_RESOLVED = ("height", "width", "clamp_known", "geometry_from")  # of a request, beside its options
_OF_A_SAMPLE = ("prompt",)  # options that may differ within a batch


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job that can be made.

    id: 16 hexadecimal digits, equal for equal requests, contents of files and models. line: of its table. size: equal
    for jobs that one batch can hold.
    """

    id: str
    line: int
    job: Job
    size: str = ""


def check_lines(
    lines: Sequence[Line], defaults: Mapping[str, Any], model: str, batched: bool = False
) -> tuple[list[Task], list[Line]]:
    """The tasks of a table, each once, and its lines that cannot be made or repeat another, with the reason.

    Every file is read. defaults: of the model. model: its hash. batched: find out which jobs fit into one batch.
    """
    contents = _Contents()

    def check(line: Line) -> Task | Line:
        if line.job is None:
            return line
        try:
            return _task(line.number, line.job, defaults, model, contents, batched)
        except Exception as error:  # of any cause: a bad line stops no other
            return replace(line, error=reason(error))

    tasks: dict[str, Task] = {}
    bad: list[Line] = []
    pool = ThreadPoolExecutor()  # reading and decoding leave Python's lock
    try:
        for line, found in zip(lines, pool.map(check, lines), strict=True):
            if isinstance(found, Line):
                bad.append(found)
            elif found.id in tasks:
                same = f"asks for the same as line {tasks[found.id].line}"
                bad.append(replace(line, error=same, status="repeated"))
            else:
                tasks[found.id] = found
    finally:
        pool.shutdown(cancel_futures=True)
    return list(tasks.values()), bad


def reason(error: Exception) -> str:
    """What a row of the manifest says of an error, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    return NO_MEMORY if out_of_memory(error) else f"{type(error).__name__}: {text}"


def batches(tasks: Iterable[Task], most: int) -> Iterator[list[Task]]:
    """Tasks in groups of at most `most` that one batch can hold, in order of their first."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.size if most > 1 else task.id, []).append(task)
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


class _Contents(dict[Path, str]):
    """File -> hash of its content; an image is decoded once, to see that it can be."""

    def __missing__(self, path: Path) -> str:
        self[path] = file_hash(path)
        return self[path]

    def of(self, images: ImageSequence) -> list[str]:
        for path in images.files:
            if path not in self and images.timeline is None:
                read_image(path)
        return [self[path] for path in images.files]


def _task(number: int, job: Job, defaults: Mapping[str, Any], model: str, contents: _Contents, batched: bool) -> Task:
    job.check()
    request = job.resolve(defaults)
    inputs = contents.of(request.images) if request.images is not None else []
    if request.images is not None and request.images.timeline is not None:
        request.images.first_size()  # decodes a frame
    options = {f.name: getattr(request, f.name) for f in options_of(Request)}
    options |= {name: getattr(request, name) for name in _RESOLVED}
    camera = _cameras_hash(request.cameras) if isinstance(request.cameras, Cameras) else request.cameras
    identity = _hash([model, options, camera, job.seed, inputs])
    size = ""
    if batched:
        shared = {name: value for name, value in options.items() if name not in _OF_A_SAMPLE}
        kind = "given" if isinstance(request.cameras, Cameras) else camera
        size = _hash([shared, kind, request.num_views, request.frame_size()])
    return Task(id=identity, line=number, job=job, size=size)


def _cameras_hash(cameras: Cameras) -> str:
    return _hash([cameras.T_world_camera.tolist(), cameras.K_px.tolist(), cameras.height, cameras.width])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
