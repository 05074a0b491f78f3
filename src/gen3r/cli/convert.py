"""`gen3r convert`: the published checkpoint layout <-> our pipeline folder."""

import argparse
from pathlib import Path

from gen3r.cli.common import say
from gen3r.errors import InputError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="the published checkpoint layout to ours, or back",
        description="Converts a model folder: the published layout to ours, or ours to the published one, whichever\n"
        "IN is not. No number changes.",
        epilog="examples:\n  gen3r convert published-folder my-model\n  gen3r convert my-model published-folder",
    )
    parser.add_argument("source", metavar="IN", help="nano, a model folder, or a Hub id")
    parser.add_argument("target", metavar="OUT", type=Path, help="a folder that does not exist yet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Converts and says what it wrote."""
    from gen3r.checkpoints import convert

    if args.target.exists() and not (args.target.is_dir() and not any(args.target.iterdir())):
        raise InputError(f"{args.target} exists already; choose another output folder or remove it")
    say(f"converting {args.source} ...")
    print(f"{args.target}: {convert(args.source, args.target)} layout")
