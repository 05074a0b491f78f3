"""`gen3r data`: datasets to train and test on; one module per action."""

import argparse
from importlib import import_module

ACTIONS = ("synthesize", "convert", "caption", "encode", "check", "show")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand with every action."""
    parser = subparsers.add_parser(
        "data",
        help="make, convert, caption, check and show datasets",
        description="Data to train and test on: clips of the procedural world, and datasets as they are downloaded.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name in ACTIONS:
        import_module(f"gen3r.cli.data_{name}").add_parser(actions)
