"""A batch: what is missing is made, failures are tried again, and the manifest says what became of each line."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gen3r.batch.filters import SCORES
from gen3r.batch.outputs import KEPT, REJECTED, SHARDS, Record, as_rows, damaged, find_records, pack, sort_scenes
from gen3r.batch.table import Line
from gen3r.batch.tasks import Task, batches
from gen3r.batch.worker import UNWRITABLE, Settings, failure, request_text
from gen3r.errors import InputError
from gen3r.files import exclusive_folder, remove_partial, whole_file

MANIFEST, PROGRESS = "manifest.parquet", "progress.jsonl"
LOST = "its worker died each time; smaller batches or fewer workers leave more memory"
Engine = Callable[[Sequence[Sequence[Task]]], Iterator[Record]]


@dataclass
class Batch:
    """A batch's folder, which this process alone works in.

    records: of all scenes in the folder and of this run's failures, by id. invalid: lines that are no job.
    """

    settings: Settings
    records: dict[str, Record]
    invalid: list[Record] = field(default_factory=list)
    _loose: list[Record] = field(default_factory=list)  # kept scenes that are in no tar yet

    @property
    def out(self) -> Path:
        return self.settings.out

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks without a scene."""
        return [t for t in tasks if t.id not in self.records or self.records[t.id].status == "failed"]

    def run(self, tasks: Sequence[Task], engine: Engine, batch: int = 1, attempts: int = 2, shard: int = 0) -> None:
        """Makes the tasks without a scene. A task that fails is tried `attempts` times, in turn with the others.

        engine: gives the records of groups of tasks as they are made. batch: tasks in a group at most. shard: kept
        scenes in a tar; 0 leaves them in their folders. The manifest is written however this ends.

        Raises:
            InputError: the folder cannot be written to, or is full.
        """
        todo = self.missing(tasks)
        loose = (r for r in self.records.values() if r.status == "done" and r.path.startswith(KEPT))
        self._loose = [*loose] if shard else []
        try:
            with _Progress(self.out, len(todo)) as progress:
                for attempt in range(attempts):
                    last, seen = attempt + 1 == attempts, set()
                    groups = list(batches(todo, batch if attempt == 0 else 1))
                    for record in engine(groups) if groups else ():
                        if record.status == UNWRITABLE:
                            raise InputError(record.error)
                        self.records[record.id] = record
                        seen.add(record.id)
                        if last or record.status != "failed":
                            progress.add(record)
                        self._loose += [record] if shard and record.status == "done" else []
                        self._pack(shard, at_least=shard)
                    lost = [task for task in todo if task.id not in seen]
                    self.records |= {task.id: failure(task, LOST, self.settings.model) for task in lost}
                    todo = self.missing(todo)
                    if last:
                        for task in lost:
                            progress.add(self.records[task.id])
                self._pack(shard, at_least=1)
        finally:
            write_manifest([*self.invalid, *self.records.values()], self.out / MANIFEST)

    def _pack(self, shard: int, at_least: int) -> None:
        while self._loose and len(self._loose) >= at_least:
            self.records |= {r.id: r for r in pack(self.out, self._loose[:shard])}
            self._loose = self._loose[shard:]


@contextmanager
def open_batch(
    settings: Settings, tasks: Sequence[Task] = (), bad: Sequence[Line] = (), verify: bool = False
) -> Iterator[Batch]:
    """A batch's folder with the scenes that are in it, cleaned of what a process that died left half-written.

    bad: lines of the table that are no task. verify: reads every file; damaged scenes are removed, to be made again.

    Raises:
        InputError: another process works in the folder, or it holds something else or scenes of other formats.
    """
    out = settings.out
    strangers = {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()
    strangers -= {KEPT, REJECTED, SHARDS, MANIFEST, PROGRESS}
    if strangers:
        raise InputError(f"{out} holds {min(strangers)}, which is no part of a batch; choose another folder")
    with exclusive_folder(out):
        _clean(out)
        records = sort_scenes(out, find_records(out), settings.rules)
        other = next((r for r in records.values() if r.formats != [*settings.formats]), None)
        if other:
            raise InputError(f"{out} holds scenes as {' '.join(other.formats)}; choose another folder or that --format")
        for record in damaged(out, list(records.values())) if verify else ():
            _remove(out, record)
            records = {i: r for i, r in records.items() if r.path != record.path}
        lines = {task.id: task.line for task in tasks}
        records = {i: replace(r, line=lines.get(i, 0)) for i, r in records.items()}
        invalid = [_unmade(line) for line in bad]
        try:
            yield Batch(settings, records, invalid)
        finally:
            _clean(out)


def _unmade(line: Line) -> Record:
    request = request_text(line.job) if line.job else ""
    return Record(id="", line=line.number, status=line.status, error=line.error, request=request)


def _clean(out: Path) -> None:
    for folder in (out, out / KEPT, out / REJECTED, out / SHARDS):
        remove_partial(folder)


def _remove(out: Path, record: Record) -> None:
    path = out / record.path
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_manifest(records: Sequence[Record], path: Path) -> None:
    """Writes a Parquet file with a row a record, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"line": pa.int64(), "bytes": pa.int64(), "formats": pa.list_(pa.string())}
    names = [name for name in Record.__dataclass_fields__ if name != "scores"]
    columns = {name: kinds.get(name, pa.float64() if name == "seconds" else pa.string()) for name in names}
    schema = pa.schema([*columns.items(), *((name, pa.float64()) for name in SCORES)])
    with whole_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(as_rows(records), schema=schema), partial)


class _Progress:
    """A bar for people, and a line of JSON a scene for programs."""

    def __init__(self, out: Path, total: int) -> None:
        self.counts = {"done": 0, "rejected": 0, "failed": 0}
        self.total, self.started = total, time.monotonic()
        self.bar = tqdm(total=total, desc="gen3r: batch", unit="scene")
        self.file = (out / PROGRESS).open("a", encoding="utf-8")

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.file.close()

    def add(self, record: Record) -> None:
        """Counts a task that is settled."""
        self.counts[record.status] += 1
        settled, passed = sum(self.counts.values()), time.monotonic() - self.started
        line: dict[str, Any] = {"id": record.id, "line": record.line, "status": record.status, "error": record.error}
        line |= {**self.counts, "left": self.total - settled, "per_minute": round(60 * settled / passed, 2)}
        line["seconds_left"] = round(passed / settled * (self.total - settled), 1)
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()
        self.bar.set_postfix({name: n for name, n in self.counts.items() if n and name != "done"}, refresh=False)
        self.bar.update()
