"""`gen3r`: parses the arguments and runs a subcommand."""

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from importlib import import_module
from typing import TextIO

from gen3r import __version__
from gen3r.cli.common import Parser, exit_code, once, remembered_interrupts, show_warning
from gen3r.errors import InputError

try:
    import resource
except ImportError:  # Windows
    resource = None

LEAST_MEMORY = 1 << 30  # bytes of addresses
COMMANDS = (
    "generate", "app", "batch", "reconstruct", "export", "view", "info", "convert", "calibrate", "data", "train",
    "evaluate",
)  # fmt: skip
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the console cannot show
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:  # closed ones: libraries would print into files of ours
        pass
    os.close(number)
    with open(os.devnull, "w") as nowhere, redirect_stderr(_Messages(sys.stderr or nowhere, nowhere)):
        return exit_code(lambda: _run(argv))


class _Messages(io.TextIOBase):
    """Standard error for as long as it takes any: a bar that cannot be drawn does not end hours of work."""

    def __init__(self, stream: TextIO, nowhere: TextIO) -> None:
        self._stream, self._nowhere = stream, nowhere

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(self._nowhere.fileno(), self._stream.fileno())
        return len(text)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding


def _run(argv: Sequence[str] | None) -> int | None:
    with warnings.catch_warnings(), remembered_interrupts(), _printed():
        warnings.showwarning = once(show_warning)
        args, unknown = build_parser().parse_known_args(argv)
        if unknown:
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        _check_surroundings()
        return args.run(args)


def _check_surroundings() -> None:
    """Refuses what torch's libraries would end the process over, without a word."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InputError("the working folder has been removed; change to another one") from error
    if sys.flags.optimize > 1:
        raise InputError("python -OO drops docstrings, which transformers needs; use python -O")
    if resource is not None and 0 <= (most := resource.getrlimit(resource.RLIMIT_AS)[0]) < LEAST_MEMORY:
        raise InputError(f"{most >> 20} MB of memory are allowed here, too little to start; see ulimit -v")


@contextmanager
def _printed() -> Iterator[None]:
    """Makes sure that what was printed arrives, or says that it does not; quiet where nobody reads on."""
    try:
        try:
            yield
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # of a file, not of the output
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at its end
        if not isinstance(error, BrokenPipeError):
            raise InputError(f"cannot print: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
