"""`gen3r data check`: what is wrong with a dataset."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from gen3r.cli.data_common import SourceOptions, add_action
from gen3r.options import option, read_options

_DESCRIPTION = """\
Reads a dataset and prints a table of what is wrong with its scenes: files that cannot be read, poses that are not rigid
or jump, impossible lenses, depth and cameras that disagree with matches between the images, and duplicates.
The exit code is 0 where all is well, else 1."""
_EXAMPLES = """\
examples:
  gen3r data check downloads/wildrgbd --limit 20
  gen3r data check data/dl3dv --dataset standard --json report.json"""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(SourceOptions):
    limit: int | None = option(None, "check N scenes, evenly spaced (default: all)", metavar="N", positive=True)
    frames: int | None = option(None, "open at most N frames of a scene (default: all)", metavar="N", positive=True)
    pixels: float = option(2.0, "a median disagreement over X is a problem (default: 2)", metavar="X", positive=True)
    json: Path | None = option(None, "write the table as JSON too", metavar="FILE")
    strict: bool = option(False, "stop where scenes cannot even be listed")
    workers: int = option(1, "processes (default: 1)", metavar="N", positive=True)


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    add_action(
        actions, "check", CheckOptions, run, description=_DESCRIPTION, epilog=_EXAMPLES,
        help="unreadable files, impossible cameras, depth that disagrees, duplicates",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Checks and prints; 1 if anything is wrong."""
    options = read_options(args, CheckOptions)
    from gen3r.files import check_file, write_text

    if options.json:
        check_file(options.json)
    reader = options.open(options.strict)
    scenes = reader.scenes
    from tqdm import tqdm

    from gen3r.data.check.inspection import inspect_dataset, table
    from gen3r.media.images import evenly_spaced

    if options.limit is not None:
        scenes = [scenes[i] for i in evenly_spaced(len(scenes), min(options.limit, len(scenes)))]
    found = inspect_dataset(reader, scenes, options.workers, options.frames, options.pixels)
    reports = list(tqdm(found, total=len(scenes), desc="scenes", unit="scene"))
    print(table(reports))
    for problem in reader.problems:
        print(f"not listed: {problem}")
    wrong = sum(bool(report.problems) for report in reports)
    print(f"{len(reports)} scenes, {wrong} with problems")
    if options.json:
        about = {"source": str(options.source), "dataset": reader.name, "not_listed": reader.problems}
        text = json.dumps({**about, "scenes": [report.to_json() for report in reports]}, indent=1)
        write_text(text + "\n", options.json)
    return int(bool(wrong or reader.problems))
