"""`gen3r`: parses the arguments and runs a subcommand."""

import argparse
import sys
import warnings
from importlib import import_module

from gen3r import __version__
from gen3r.errors import InputError

COMMANDS = ("generate", "reconstruct", "info", "convert", "data", "train", "evaluate")
_DESCRIPTION = """\
From a photo, two photos, a video or text to one consistent 3-D scene: video, depth, points and cameras."""
_EPILOG = """\
first steps:
  gen3r generate photo.jpg --camera orbit_left --out scene     a photo becomes a scene
  gen3r reconstruct clip.mp4 --out scene                       depth, points and cameras of a video
  gen3r generate --help                                        all that generate can do"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand."""
    parser = argparse.ArgumentParser(
        "gen3r", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"gen3r {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"gen3r.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    args = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return args.run(args) or 0
    except InputError as error:
        print(f"gen3r: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gen3r: interrupted; nothing was written", file=sys.stderr)
        return 130


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if category is UserWarning:
        print(f"gen3r: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
