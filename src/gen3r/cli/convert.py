"""`gen3r convert`: the published checkpoint layout <-> our pipeline folder."""

import argparse

from gen3r.cli.common import parse_output, say
from gen3r.files import reserved_folder
from gen3r.locations import local_model


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
    parser.add_argument("target", metavar="OUT", type=parse_output, help="a folder that does not exist yet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Converts and says what it wrote."""
    local_model(args.source)
    with reserved_folder(args.target):
        from gen3r.checkpoints import convert

        say(f"converting {args.source} ...")
        print(f"{args.target}: {convert(args.source, args.target)} layout")
