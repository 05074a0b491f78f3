"""`gen3r convert`: the published checkpoint layout <-> our pipeline folder."""

import argparse
from pathlib import Path

from gen3r.cli.common import say


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="the published checkpoint layout to ours, or back",
        description="Converts a model folder: the published layout to ours, or ours to the published one, whichever IN is "
        "not. No number changes.",
    )
    parser.add_argument("source", metavar="IN", help="nano, a model folder, or a Hub id")
    parser.add_argument("target", metavar="OUT", type=Path, help="a folder that does not exist yet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Converts and says what it wrote."""
    from gen3r.checkpoints import convert

    say(f"converting {args.source} ...")
    print(f"{args.target}: {convert(args.source, args.target)} layout")
