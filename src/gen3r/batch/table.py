"""Tables of jobs: JSON lines, CSV, or a folder of pictures, each line multiplied by cameras and seeds."""

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.options import options_of
from gen3r.request import Request

_NAMES = {f.name: f.type for kind in (Job, Request) for f in options_of(kind)}


@dataclass(frozen=True)
class Line:
    """A line of a table: a job, or why there is none.

    number: of the line or picture, from 1. status: with an error, invalid, or repeated where another line asks for the
    same.
    """

    number: int
    job: Job | None = None
    error: str = ""
    status: Literal["invalid", "repeated"] = "invalid"


def read_table(path: Path, common: Job | None = None, cameras: Sequence[str] = (), seeds: int = 1) -> list[Line]:
    """The jobs of a table, in order, with absolute paths; a line that is no job has its error instead.

    path: `.jsonl`, an object a line with the options of a `Job`; `.csv`, whose header names them, with `;` between
        several inputs; or a folder, one job a picture. Relative paths in a table start from its folder.
    common: options of lines that do not have their own. cameras: each line without a camera becomes a job for each.
    seeds: each line without a seed becomes so many jobs, from the common seed on.

    Raises:
        InputError: the table cannot be read, has no lines, or its header names something that is no option.
    """
    common, path = common or Job(), path.absolute()  # workers may start in another folder
    lines = []
    for number, values in _rows(path):
        if isinstance(values, InputError):
            lines.append(Line(number, error=str(values)))
            continue
        paths = [values["camera"]] if values.get("camera") else [*cameras] or [None]
        numbers = [values["seed"]] if "seed" in values else range(common.seed, common.seed + seeds)
        for camera, seed in itertools.product(paths, numbers):
            own = values if camera is None else {**values, "camera": camera}
            lines.append(_line(number, {**common.to_json(), **own, "seed": seed}, path))
    if not lines:
        raise InputError(f"{path} holds no jobs")
    return lines


def _line(number: int, values: dict[str, Any], path: Path) -> Line:
    try:
        return Line(number, Job.from_json(values, Path() if path.is_dir() else path.parent))
    except InputError as error:
        return Line(number, error=str(error))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Number and values of each line; instead of the values, what is wrong with them."""
    if path.is_dir():
        from gen3r.media.images import list_images

        yield from enumerate(({"inputs": [str(p)]} for p in list_images(path)), 1)
        return
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"no table of jobs at {path}; give a .jsonl or .csv file, or a folder of pictures") from error
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(data, path)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from ((n, _object(line)) for n, line in enumerate(data.splitlines(), 1) if line.strip())
    else:
        raise InputError(f"{path} is no table of jobs; give a .jsonl or .csv file, or a folder of pictures")


def _object(line: bytes) -> dict[str, Any] | InputError:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else InputError('not a JSON object, such as {"prompt": "a room"}')


def _csv_rows(data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    text = data.decode("utf-8-sig", "surrogateescape")  # prompts that are not UTF-8 are refused line by line
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    try:
        unknown = [name for name in reader.fieldnames or () if name not in _NAMES]
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV ({error})") from error
    if unknown:
        raise InputError(f"{path} has a column {unknown[0]!r}; the options are: {', '.join(_NAMES)}")
    while True:
        try:
            row = next(reader)
            yield reader.line_num, _cells(row)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.reader.line_num, InputError(f"not CSV ({error})")


def _cells(row: dict[Any, Any]) -> dict[str, Any] | InputError:
    """A row as JSON values; empty cells are left out."""
    if None in row:
        return InputError("more cells than the header has columns")
    given = {name: text.strip() for name, text in row.items() if text.strip()}
    return {name: _value(_NAMES[name], name, text) for name, text in given.items()}


def _value(kind: Any, name: str, text: str) -> Any:
    """A number where the option is one, several inputs at `;`, else the text itself."""
    if name == "inputs":
        return [part.strip() for part in text.split(";") if part.strip()]
    if kind in (int, float, int | None, float | None):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
