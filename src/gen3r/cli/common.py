"""Options and steps that several subcommands share."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from gen3r.errors import InputError
from gen3r.options import option

if TYPE_CHECKING:
    import torch

    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model of a command, and where it runs."""

    model: str = option(
        "nano", "nano (in the package), a model folder, or a Hub id such as owner/name (default: nano)", metavar="MODEL"
    )
    device: str = option("auto", "cpu, or any device of torch (default: the accelerator, if any)", metavar="NAME")
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(
        None, "type of the weights (default: the best for model and device)"
    )


@dataclass(frozen=True, kw_only=True)
class GeometryOptions:
    """A model that sees the geometry of images in place of the pipeline's own VGGT."""

    geometry: str | None = option(
        None,
        "VGGT or depth-estimation model for the cameras and depth of the images: a folder or Hub id, which is "
        "downloaded (default: the model's own)",
        metavar="MODEL",
    )


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a command writes its scene."""

    out: Path = option(help="folder for the scene; it appears when the scene is complete", metavar="DIR")
    overwrite: bool = option(False, "replace the files of an earlier scene in DIR")
    export: tuple[str, ...] = option((), "write these formats of gen3r export into DIR/export, too", metavar="FORMAT")

    def check(self) -> None:
        """Refuses a folder and formats that cannot be written, before any work.

        Raises:
            InputError: says what to do.
        """
        from gen3r.export.formats import check_formats
        from gen3r.files import check_folder

        check_folder(self.out, self.overwrite)
        check_formats(self.export)


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


def load_pipeline(options: ModelOptions, geometry: str | None = None) -> "Gen3RPipeline":
    """The pipeline of --model on --device, with a line that says so; with the model of --geometry, if any."""
    from gen3r.pipeline import Gen3RPipeline

    device = pick_device(options.device)
    chosen = pick_dtype(options.dtype, device)
    say(f"loading {options.model} on {device} ...")
    with enough_memory():
        pipe = Gen3RPipeline.from_pretrained(options.model, torch_dtype=chosen).to(device)
        if geometry:
            say(f"loading {geometry} ...")
            pipe.load_geometry(geometry, chosen if options.dtype else None)
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


_NO_MEMORY = "out of memory; try fewer --frames, a smaller --size, --dtype bfloat16 or another --device"


def write_scene(scene: "Scene", output: OutputOptions) -> None:
    """Writes all files of a scene and prints their paths."""
    from gen3r.export.save import PAGE, save_scene

    say("writing ...")
    for path in save_scene(scene, output.out, output.overwrite, output.export):
        print(path)
    say(f"open {output.out / PAGE} in a browser to look around, or run: gen3r view {output.out}")


@contextmanager
def whole_files_stay(folder: Path) -> Iterator[None]:
    """When the command is interrupted, says that complete files stay and that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps what is whole; the same command goes on") from None


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command; returns its own exit code or 0, 2 for bad input, 130 when interrupted. Says why in one line."""
    try:
        return command() or 0
    except InputError as error:
        say(f"error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt as interruption:
        say(f"interrupted; {interruption or 'nothing was written'}")
        return 130


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
