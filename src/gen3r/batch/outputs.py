"""A scene's folder in a batch: the files of its formats and a record, whole or absent; tars of such folders."""

import hashlib
import json
import shutil
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gen3r.batch.filters import Rule, rejection
from gen3r.errors import InputError
from gen3r.export.formats import check_formats
from gen3r.export.images import reliable_depth
from gen3r.export.metadata import metadata
from gen3r.export.options import ExportOptions
from gen3r.export.save import export_scene, write_scene_files
from gen3r.export.selection import Selection
from gen3r.files import file_hash, whole_file, whole_folder, write_text
from gen3r.scene import Scene

RECORD = "job.json"
KEPT, REJECTED, SHARDS = "scenes", "rejected", "shards"
OWN_FORMATS = {"scene": "all files of gen3r generate", "webdataset": "a sample of tar shards"}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A row of the manifest.

    id: of the task. line: of the table. status: done, rejected, failed, or that of a `Line` that cannot be made.
    error: why it is not done. seconds: of making and writing it. bytes, checksum: of its files. model: its hash.
    request: the job, in JSON. scores: by name. path: of its folder or tar, in the batch's folder.
    """

    id: str
    line: int
    status: str = "done"
    error: str = ""
    seconds: float | None = None
    bytes: int = 0
    checksum: str = ""
    model: str = ""
    formats: list[str] = field(default_factory=list)
    request: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)
    path: str = ""


def check_outputs(formats: Sequence[str]) -> None:
    """Refuses formats that cannot be written.

    Raises:
        InputError: one is unknown, lacks its library, or does not go with others.
    """
    own = [name for name in formats if name in OWN_FORMATS]
    if own and len(formats) > 1:
        raise InputError(f"the format {own[0]} stands alone; give it without {' '.join({*formats} - {own[0]})}")
    check_formats([name for name in formats if name not in OWN_FORMATS])


def write_outputs(scene: Scene, record: Record, out: Path, rules: Sequence[Rule] = ()) -> Record:
    """Writes a scene in the formats of its record, with the record, under `out`; returns the record completed.

    The record's seconds are those of making the scene.
    A folder that another worker wrote meanwhile stays. rules: a scene that breaks one goes to the rejected.

    Raises:
        InputError: the folder cannot be written to, or is full.
    """
    started, error = time.monotonic(), rejection(rules, record.scores)
    place = f"{REJECTED if error else KEPT}/{record.id}"
    try:
        with whole_folder(out / place) as folder:
            if record.formats == ["scene"]:
                write_scene_files(scene, folder)
            elif record.formats == ["webdataset"]:
                _write_sample(scene, folder)
            else:
                export_scene(scene, record.formats, folder)
                write_text(json.dumps(metadata(scene), indent=2, ensure_ascii=False) + "\n", folder / "metadata.json")
            seconds = round((record.seconds or 0) + time.monotonic() - started, 3)
            record = replace(record, bytes=_size(folder), checksum=checksum(folder), seconds=seconds)
            write_text(json.dumps(asdict(record)) + "\n", folder / RECORD)
    except InputError:
        if not (out / place / RECORD).exists():
            raise
        record = read_record(out / place)
    return replace(record, status="rejected" if error else "done", error=error, path=place)


def _write_sample(scene: Scene, folder: Path) -> None:
    """The files of a webdataset sample: PNGs of the frames, geometry.npz, the caption and the settings."""
    selection = Selection(scene, ExportOptions())
    for number, frame in enumerate(scene.frames):
        Image.fromarray(frame.numpy()).save(folder / f"{number:05d}.png")
    np.savez_compressed(
        folder / "geometry.npz",
        depth=np.stack([reliable_depth(selection, n) for n in range(len(scene.frames))]).astype(np.float16),
        T_world_camera=scene.cameras.T_world_camera.numpy(),
        K_px=scene.cameras.K_px.numpy(),
    )
    (folder / "txt").write_text(scene.prompt, encoding="utf-8")
    (folder / "metadata.json").write_text(json.dumps(metadata(scene)), encoding="utf-8")


def read_record(folder: Path) -> Record:
    """The record of a scene's folder.

    Raises:
        InputError: it is damaged.
    """
    return _parse((folder / RECORD).read_bytes(), folder)


def _parse(data: bytes, place: Path) -> Record:
    try:
        return Record(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise InputError(f"{place} has no readable {RECORD}; remove it, and it is made again") from error


def find_records(out: Path) -> dict[str, Record]:
    """The records of all scenes in a batch's folder, by id."""
    found = {record.id: record for record in _tarred(out)}
    for kind, status in ((KEPT, "done"), (REJECTED, "rejected")):
        for folder in sorted((out / kind).glob("[!.]*")):
            record = replace(read_record(folder), status=status, path=f"{kind}/{folder.name}")
            found.setdefault(record.id, record)
    return found


def sort_scenes(out: Path, found: dict[str, Record], rules: Sequence[Rule]) -> dict[str, Record]:
    """Moves the scenes of `find_records` to where the rules want them; returns their records.

    A folder that is in a tar, too, since a packing was cut off, is removed. The caller holds the folder's lock.
    """
    moved = dict(found)
    for record in found.values():
        if record.path.startswith(SHARDS):
            shutil.rmtree(out / KEPT / record.id, ignore_errors=True)
            continue
        error = rejection(rules, record.scores)
        kind, status = (REJECTED, "rejected") if error else (KEPT, "done")
        if record.status != status:
            (out / kind).mkdir(exist_ok=True)
            (out / record.path).rename(out / kind / record.id)
        moved[record.id] = replace(record, status=status, error=error, path=f"{kind}/{record.id}")
    return moved


def _tarred(out: Path) -> Iterator[Record]:
    for path in sorted((out / SHARDS).glob("[!.]*.tar")):
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith(f".{RECORD}"):
                        file = tar.extractfile(member)
                        assert file is not None
                        yield replace(_parse(file.read(), path), path=f"{SHARDS}/{path.name}")
        except tarfile.TarError as error:
            raise InputError(f"{path} is damaged ({error}); remove it, and its scenes are made again") from error


def pack(out: Path, records: Sequence[Record]) -> list[Record]:
    """Moves folders of kept scenes into one new tar, whole or not at all; returns their records.

    Each file is `ID.NAME`, which makes a scene one sample of webdataset.
    """
    shards = out / SHARDS
    shards.mkdir(exist_ok=True)
    number = max((int(p.stem) for p in shards.glob("[!.]*.tar")), default=-1) + 1
    name = f"{number:06d}.tar"
    with whole_file(shards / name) as partial, tarfile.open(partial, "w") as tar:
        for record in records:
            for file in sorted((out / record.path).iterdir()):
                tar.add(file, f"{record.id}.{file.name}", recursive=False, filter=_anonymous)
    for record in records:
        shutil.rmtree(out / record.path)
    return [replace(record, path=f"{SHARDS}/{name}") for record in records]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime, member.mode = 0, 0o644
    return member


def checksum(folder: Path) -> str:
    """The SHA-256 of the names and contents of all files of a scene's folder but its record."""
    return _checksum({name: file_hash(folder / name) for name in _files(folder)})


def damaged(out: Path, records: Sequence[Record]) -> list[Record]:
    """The records whose files are not what they were when they were written; every file is read."""
    hashes: dict[str, dict[str, str]] = {}
    for path in {record.path for record in records if record.path.startswith(SHARDS)}:
        with tarfile.open(out / path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                name, _, rest = member.name.partition(".")
                if rest != RECORD:
                    hashes.setdefault(name, {})[rest] = hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
    return [
        r
        for r in records
        if r.checksum != (_checksum(hashes[r.id]) if r.path.startswith(SHARDS) else checksum(out / r.path))
    ]


def _checksum(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[str]:
    paths = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in paths if name != RECORD]


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in _files(folder))


def as_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Records as flat rows, in the order of the table."""
    ordered = sorted(records, key=lambda r: (r.line, r.id))
    return [{k: v for k, v in asdict(r).items() if k != "scores"} | r.scores for r in ordered]
