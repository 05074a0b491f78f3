"""`gen3r`: parses the arguments and runs a subcommand."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from gen3r import __version__
from gen3r.cli.common import Parser, exit_code, remembered_interrupts, say

COMMANDS = ("generate", "reconstruct", "export", "view", "app", "info", "convert", "data", "train", "evaluate")
_DESCRIPTION = """\
From a photo, two photos, a video or text to one consistent 3-D scene: video, depth, points and cameras."""
_EPILOG = """\
first steps:
  gen3r generate photo.jpg --camera orbit_left --out scene     a photo becomes a scene
  gen3r reconstruct clip.mp4 --out scene                       depth, points and cameras of a video
  gen3r export scene glb colmap                                files for Blender and for splat training
  gen3r generate --help                                        all that generate can do"""


def build_parser() -> Parser:
    """The parser with every subcommand: each module of `COMMANDS` adds its own."""
    parser = Parser(prog="gen3r", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"gen3r {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND [OPTIONS]", required=True)
    for name in COMMANDS:
        import_module(f"gen3r.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 1 for findings of a check, 2 for bad input, 130 when
    interrupted."""
    return exit_code(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int | None:
    args = build_parser().parse_args(argv)
    with warnings.catch_warnings(), remembered_interrupts():
        warnings.showwarning = _show_warning
        return args.run(args)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Warnings for people become one line; those for programmers are left out."""
    if category is UserWarning:
        say(f"warning: {message}")


if __name__ == "__main__":
    sys.exit(main())
