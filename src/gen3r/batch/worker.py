"""The work of a batch: tasks in, scenes on the disk and records out. The same in this process and on a cluster."""

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen3r.batch.filters import Rule
from gen3r.batch.outputs import KEPT, RECORD, REJECTED, Record, read_record, write_outputs
from gen3r.batch.tasks import Task, reason
from gen3r.errors import InputError, out_of_memory
from gen3r.files import disk_error
from gen3r.jobs import Job, generate_scenes

if TYPE_CHECKING:
    from gen3r.pipeline import Gen3RPipeline

UNWRITABLE = "unwritable"  # status of a record whose files the disk refused: the whole batch stops


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same for all tasks of a batch.

    load: makes the pipeline; called once in each worker. out: the batch's folder. model: the hash of the models.
    names: what people call them, for the scenes' settings. formats, rules: as in `write_outputs`. threads: of a
    worker's CPU; None leaves them as they are.
    """

    load: "Callable[[], Gen3RPipeline]"
    out: Path
    model: str
    names: Mapping[str, str] = field(default_factory=dict, hash=False)  # Ray hashes the settings
    formats: tuple[str, ...] = ("scene",)
    rules: tuple[Rule, ...] = ()
    threads: int | None = None


class Worker:
    """Holds a model and makes scenes."""

    def __init__(self, settings: Settings) -> None:
        import torch

        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.settings, self.most = settings, 1 << 30
        self.pipe = settings.load()
        self.pipe.set_progress_bar_config(disable=True)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, str]]:
        """A row of `to_row` as rows of `from_row`."""
        tasks = [Task(**{**task, "job": Job.from_json(task["job"])}) for task in json.loads(row["tasks"])]
        return [{"record": json.dumps(asdict(record))} for record in self.make(tasks)]

    def make(self, tasks: Sequence[Task]) -> list[Record]:
        """The records of tasks that one batch can hold. A failure is a record, too.

        When the memory does not suffice, this and all later batches are halved. After another error, they are halved
        once, to find the task that it is about.
        """
        if len(tasks) > self.most:
            return self._halves(tasks)
        there = [self._there(task) for task in tasks]
        tasks = [task for task, record in zip(tasks, there, strict=True) if record is None]
        found = [record for record in there if record is not None]
        if not tasks:
            return found
        try:
            return found + self._made(tasks)
        except Exception as error:  # of any cause: a failure is a row
            if isinstance(error, InputError) and disk_error(error):
                return [*found, self._failed(tasks[0], UNWRITABLE, error)]
            if len(tasks) == 1:
                return [*found, self._failed(tasks[0], "failed", error)]
            if out_of_memory(error):
                self.most = len(tasks) // 2
        return found + self._halves(tasks)

    def _halves(self, tasks: Sequence[Task]) -> list[Record]:
        half = (len(tasks) + 1) // 2
        return self.make(tasks[:half]) + self.make(tasks[half:])

    def _there(self, task: Task) -> Record | None:
        """What an earlier attempt wrote before its worker died."""
        folders = [self.settings.out / kind / task.id for kind in (KEPT, REJECTED)]
        return next((read_record(folder) for folder in folders if (folder / RECORD).exists()), None)

    def _made(self, tasks: Sequence[Task]) -> list[Record]:
        from gen3r.batch.scores import score_scene

        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were shown when the lines were checked
            requests = [task.job.resolve(self.pipe.defaults) for task in tasks]
            scenes = generate_scenes([task.job for task in tasks], requests, self.pipe)
        shared, records = (time.monotonic() - started) / len(tasks), []
        for task, request, scene in zip(tasks, requests, scenes, strict=True):
            started = time.monotonic()
            scene.settings.update(self.settings.names)
            scores = score_scene(self.pipe, scene, request)
            seconds = shared + time.monotonic() - started
            record = Record(
                id=task.id, line=task.line, seconds=seconds, model=self.settings.model, scores=scores,
                formats=[*self.settings.formats], request=request_text(task.job),
            )  # fmt: skip
            records.append(write_outputs(scene, record, self.settings.out, self.settings.rules))
        return records

    def _failed(self, task: Task, status: str, error: Exception) -> Record:
        return failure(task, reason(error), self.settings.model, status)


def failure(task: Task, error: str, model: str, status: str = "failed") -> Record:
    """The record of a task that no scene came of."""
    return Record(id=task.id, line=task.line, status=status, error=error, model=model, request=request_text(task.job))


def request_text(job: Job) -> str:
    """A job as a line of JSON."""
    return json.dumps(job.to_json(), ensure_ascii=False)


def to_row(tasks: Sequence[Task]) -> dict[str, str]:
    """Tasks of one batch as a row of text."""
    return {"tasks": json.dumps([{**vars(task), "job": task.job.to_json()} for task in tasks])}


def from_row(row: dict[str, str]) -> Record:
    """The record of a worker's row."""
    return Record(**json.loads(row["record"]))
