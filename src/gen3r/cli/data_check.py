"""`gen3r data check`: what is wrong with a dataset."""

import argparse
import json
from pathlib import Path

from gen3r.cli.data_common import add_source_arguments, at_least_one, chosen_scenes, open_reader
from gen3r.errors import InputError


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "check",
        help="unreadable files, impossible cameras, depth that disagrees, duplicates",
        description="Reads a dataset and prints a table of what is wrong with its scenes: files that cannot be read,\n"
        "poses that are not rigid or jump, lenses that cannot be, depth and cameras that disagree with where points\n"
        "of the pictures are seen again, and duplicates. The exit code is 0 where all is well, else 1.",
        epilog="examples:\n  gen3r data check downloads/wildrgbd --limit 20\n"
        "  gen3r data check data/dl3dv --dataset standard --json report.json",
    )
    add_source_arguments(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="look at N scenes, spread evenly (default: all)")
    parser.add_argument("--frames", type=int, metavar="N", help="open at most N frames of a scene (default: all)")
    parser.add_argument(
        "--pixels", type=float, default=2.0, metavar="X", help="median disagreement that is too much (default: 2)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON too")
    parser.add_argument("--strict", action="store_true", help="stop where scenes cannot even be listed")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Looks, prints; 1 if anything is wrong."""
    at_least_one(args, "limit", "frames", "workers")
    if not args.pixels > 0:
        raise InputError(f"--pixels must be over 0, not {args.pixels}")
    reader = open_reader(args.source, args.dataset, args.strict)
    scenes = chosen_scenes(reader, args.scene)
    from tqdm import tqdm

    from gen3r.data.check.inspection import inspect_dataset, table
    from gen3r.files import whole_file
    from gen3r.media.images import evenly_spaced

    if args.limit is not None:
        scenes = [scenes[i] for i in sorted(set(evenly_spaced(len(scenes), min(args.limit, len(scenes)))))]
    found = inspect_dataset(reader, scenes, args.workers, args.frames, args.pixels)
    reports = list(tqdm(found, total=len(scenes), desc="scenes", unit="scene"))
    print(table(reports))
    for problem in reader.problems:
        print(f"not listed: {problem}")
    wrong = sum(bool(report.problems) for report in reports)
    print(f"{len(reports)} scenes, {wrong} with problems")
    if args.json:
        about = {"source": str(args.source), "dataset": reader.name, "not_listed": reader.problems}
        with whole_file(args.json) as partial:
            partial.write_text(json.dumps({**about, "scenes": [r.to_json() for r in reports]}, indent=1) + "\n")
    return int(bool(wrong or reader.problems))
