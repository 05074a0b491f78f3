"""Arguments and steps that several subcommands share."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from gen3r.errors import InputError

if TYPE_CHECKING:
    import torch

    from gen3r.media.sequence import ImageSequence
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

DTYPES = ("float32", "bfloat16", "float16")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps our line breaks, and gives option names the room they need."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 28, "width": 110, **options})


class Parser(argparse.ArgumentParser):
    """argparse with our layout of help texts, and with errors that are one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        """A wrong command line, as any other input that cannot be used."""
        raise InputError(f"{message} (see {self.prog} --help)")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --device, --dtype."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="nano",
        metavar="MODEL",
        help="nano (in the package), a model folder, or a Hub id such as owner/name (default: nano)",
    )
    add_device_argument(group)
    group.add_argument("--dtype", choices=DTYPES, help="type of the weights (default: the best for model and device)")


def add_device_argument(parser: argparse._ActionsContainer) -> None:
    """--device."""
    parser.add_argument(
        "--device", default="auto", metavar="NAME",
        help="cpu, or any that torch knows (default: the accelerator, if any)",
    )  # fmt: skip


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--out, --overwrite."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the scene; made when the scene is whole"
    )
    group.add_argument("--overwrite", action="store_true", help="replace the files of an earlier scene in DIR")


def parse_size(text: str) -> tuple[int, int]:
    """`N` or `HxW` as (height, width)."""
    try:
        parts = [int(x) for x in text.lower().split("x")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2):
        raise argparse.ArgumentTypeError(f"a size is N or HEIGHTxWIDTH in pixels, such as 112 or 112x224, not {text}")
    return parts[0], parts[-1]


def pick_device(name: str) -> "torch.device":
    """The device of a name; `auto` is the accelerator where there is one.

    Raises:
        InputError: torch does not know it, or this machine does not have it.
    """
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    try:
        device = (found or torch.device("cpu")) if name == "auto" else torch.device(name)
        torch.ones(1, device=device).item()  # a device that cannot hold a number is none
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"the device {name} cannot be used here; try --device auto or cpu") from error
    return device


def pick_dtype(name: str | None, device: "torch.device") -> "torch.dtype | None":
    """The type of a name; without one, float32 on a device that is slow with bfloat16, else None, the stored type."""
    import torch

    from gen3r.models.precision import fast_dtype

    if name:
        return getattr(torch, name)
    return torch.float32 if fast_dtype(device) == torch.float32 else None


def load_pipeline(args: argparse.Namespace) -> "Gen3RPipeline":
    """The pipeline of --model on --device, with a line that says so."""
    from gen3r.pipeline import Gen3RPipeline

    device = pick_device(args.device)
    chosen = pick_dtype(args.dtype, device)
    say(f"loading {args.model} on {device} ...")
    with enough_memory():
        pipe = Gen3RPipeline.from_pretrained(args.model, torch_dtype=chosen).to(device)
    pipe.set_progress_bar_config(desc="gen3r: denoising", unit="step", file=sys.stderr)
    return pipe


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a lack of memory into one line that says what to do."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise InputError(_NO_MEMORY) from error
    except RuntimeError as error:  # what torch raises when a CPU has no more
        if "allocate memory" not in str(error):
            raise
        raise InputError(_NO_MEMORY) from error


_NO_MEMORY = "the memory does not suffice; try fewer --frames, a smaller --size, --dtype bfloat16 or another --device"


def read_pictures(pictures: "ImageSequence", indices: Sequence[int], height: int, width: int) -> "torch.Tensor":
    """ImageSequence of these numbers as [n, 3, height, width], with a line that says so."""
    say(f"reading {len(indices)} of {pictures.count} pictures ...")
    with enough_memory():
        return pictures.read(indices, height, width)


def write_scene(scene: "Scene", args: argparse.Namespace) -> None:
    """Writes all files of a scene and says where."""
    from gen3r.export import save_scene

    say("writing ...")
    for path in save_scene(scene, args.out, args.overwrite):
        print(path)


@contextmanager
def whole_files_stay(folder: Path) -> Iterator[None]:
    """Says so when the command is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps what is whole; the same command goes on") from None


_interrupted = threading.Event()


@contextmanager
def remembered_interrupts() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, as ever, and is remembered for `stop_if_interrupted`.

    An exception that comes while a library runs a callback of its own can be lost there.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        _interrupted.set()
        signal.default_int_handler(number, frame)

    _interrupted.clear()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so where Ctrl-C is to be ignored
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def stop_if_interrupted() -> None:
    """Raises the KeyboardInterrupt of a Ctrl-C that was lost."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def say(text: str) -> None:
    """A line about what is being done, to standard error."""
    print(f"gen3r: {text}", file=sys.stderr, flush=True)
