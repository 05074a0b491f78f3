"""`gen3r data synthesize`: clips of the procedural world."""

import argparse
from pathlib import Path

from gen3r.errors import InputError


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    make = actions.add_parser(
        "synthesize",
        help="render posed RGB-D clips of procedural rooms and plazas",
        description="Renders clips with exact depth, cameras and captions into shards. A seed a clip: the same command "
        "gives the same clips, and one that was stopped goes on. Needs the extra gen3r[world].",
    )
    make.add_argument("count", type=int, metavar="N", help="how many clips")
    make.add_argument("folder", type=Path, metavar="DST", help="folder for the shards")
    make.add_argument("--split", choices=("train", "test"), default="train", help="the splits share no scene")
    make.add_argument("--frames", type=int, default=17, help="frames a clip (default: 17)")
    make.add_argument("--size", type=int, default=112, help="height and width in pixels (default: 112)")
    make.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    make.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Renders."""
    for name in ("count", "frames", "size", "workers"):
        if getattr(args, name) < 1:
            raise InputError(f"{name} must be at least 1, not {getattr(args, name)}")
    from gen3r.data.shards import synthesize

    synthesize(args.folder, args.count, args.split, args.frames, args.size, args.workers)
