"""Options and steps that several subcommands share."""

import argparse
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from gen3r.errors import NO_MEMORY, InputError, out_of_memory
from gen3r.locations import local_model
from gen3r.options import option, read_options

if TYPE_CHECKING:
    import torch

    from gen3r.models.cost import Clip
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene


def parse_output(text: str) -> Path:
    """A path to write to."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty; give a path, or . for this folder")
    return Path(os.path.expanduser(text))  # shells leave ~ in --out=~/scene as it is


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
    variant: str | None = option(
        None, "read the files of a variant, as diffusers does: fp16 for model.fp16.safetensors", metavar="NAME"
    )
    memory: Literal["auto", "high", "balanced", "low"] = option(
        "auto",
        "high: all weights on the device; balanced: those of one component; low: of one layer, and frames in tiles "
        "(default: the first that fits)",
    )

    def __post_init__(self) -> None:
        local_model(self.model)


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
class LoraOptions:
    """Adapters for the transformer that makes scenes."""

    lora: Path | None = option(None, "adapters of gen3r train lora or distill; needs gen3r[lora]", metavar="FILE")

    def check(self) -> None:
        """Refuses adapters that cannot be loaded, before any work.

        Raises:
            InputError: says what to do.
        """
        if self.lora:
            from gen3r.checkpoints.lora import check_peft, lora_file

            check_peft()
            lora_file(self.lora)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a command writes its scene."""

    out: Path = option(
        help="folder for the scene; it appears when the scene is complete", metavar="DIR", parse=parse_output
    )
    overwrite: bool = option(False, "replace the files of an earlier scene in DIR")
    export: tuple[str, ...] = option((), "write these formats of gen3r export into DIR/export, too", metavar="FORMAT")

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keeps the folder for this command; refuses one, and formats, that cannot be written, before any work.

        Raises:
            InputError: says what to do.
        """
        from gen3r.export.formats import check_formats
        from gen3r.files import reserved_folder

        check_formats(self.export)
        with reserved_folder(self.out, self.overwrite):
            yield

    @classmethod
    def reserve(cls, run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
        """A command that runs with its folder reserved."""

        def reserved(args: argparse.Namespace) -> None:
            with read_options(args, cls).reserved():
                run(args)

        return reserved


@dataclass(frozen=True, kw_only=True)
class AddressOptions:
    """Where a page is served.

    Raises:
        InputError: there is no such port.
    """

    host: str = option("127.0.0.1", "address to listen on (default: 127.0.0.1, this machine alone)", metavar="ADDRESS")
    port: int = option(8080, "port, or the next free one after it (default: 8080)", metavar="N", positive=True)

    def __post_init__(self) -> None:
        if self.port > 65535:
            raise InputError(f"a port is a number from 1 to 65535, not {self.port}")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps our line breaks, and gives option names the room they need."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 28, "width": 110, **options})


class Parser(argparse.ArgumentParser):
    """argparse with our layout of help texts, and with errors that are one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **options})
        self.set_defaults(parser=self)  # of a command's options, its own

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


def load_pipeline(
    options: ModelOptions, geometry: str | None = None, lora: Path | None = None, clip: "Clip | None" = None
) -> "Gen3RPipeline":
    """The pipeline of --model on --device, with a line that says so; with --geometry and --lora, if any.

    clip: the largest that will be made, for which --memory must suffice; None means the model's own.
    """
    from gen3r.checkpoints.cost import fitting_tier, own_clip
    from gen3r.pipeline import Gen3RPipeline

    device = pick_device(options.device)
    chosen = pick_dtype(options.dtype, device)
    memory = fitting_tier(
        options.model, chosen, clip or own_clip(options.model), device, options.memory, options.variant
    )
    say(f"loading {options.model} on {device}" + ("" if memory == "high" else f", memory {memory}") + " ...")
    with enough_memory():
        pipe = Gen3RPipeline.from_pretrained(options.model, chosen, options.variant, memory, device)
        if geometry:
            say(f"loading {geometry} ...")
            pipe.load_geometry(geometry, chosen if options.dtype else None)
        if lora:
            pipe.load_lora(lora)
    pipe.set_progress_bar_config(desc="gen3r: denoising", unit="step", file=sys.stderr)
    return pipe


def names_of_models(model: str, geometry: str | None = None, lora: Path | None = None) -> dict[str, str]:
    """What a scene's settings say about the models that made it."""
    named = {"model": model, "geometry": geometry, "lora": lora}
    return {option: str(name) for option, name in named.items() if name}


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a lack of memory into one line that says what to do."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise InputError(NO_MEMORY) from error


def write_scene(scene: "Scene", output: OutputOptions) -> None:
    """Writes all files of a scene and prints their paths. Where that fails, the scene goes somewhere else.

    Raises:
        InputError: why it failed, and where the scene is.
    """
    from gen3r.export.save import PAGE, save_scene

    say("writing ...")
    try:
        paths = save_scene(scene, output.out, output.overwrite, output.export)
    except Exception as error:
        rescued = _rescue(scene, output)
        if rescued is None:
            raise
        raise InputError(f"{error}; the finished scene is in {rescued}") from error
    for path in paths:
        print(path)
    say(f"open {output.out / PAGE} in a browser to look around, or run: gen3r view {output.out}")


def _rescue(scene: "Scene", output: OutputOptions) -> Path | None:
    """Writes a scene without exports to the first folder that takes it; returns that folder."""
    from gen3r.export.save import save_scene

    name = f"{output.out.name or 'scene'}-{datetime.now():%Y%m%d-%H%M%S}"
    places = [(output.out, output.overwrite)] if output.export else []
    places += [(Path(place) / name, False) for place in (tempfile.gettempdir(), ".", os.path.expanduser("~"))]
    for folder, overwrite in places:
        with suppress(Exception):
            save_scene(scene, folder, overwrite)
            return folder
    return None


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
        return _said_code(command)
    except KeyboardInterrupt:  # while the last line is written
        return 128 + signal.SIGINT


def _said_code(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except KeyboardInterrupt as interruption:
        say(f"interrupted; {str(interruption) or 'nothing was written'}")
        return 128 + (_received[0] if _received else signal.SIGINT)
    except Exception as error:
        if not (isinstance(error, (InputError, OSError)) or out_of_memory(error)):
            raise
        say(f"error: {' '.join(_reason(error).split())}")
        return 2


def _reason(error: Exception) -> str:
    """What a person reads of an error."""
    if isinstance(error, OSError):  # of a file that nothing is known about but its name
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return str(error) if isinstance(error, InputError) else NO_MEMORY


def duration(seconds: float) -> str:
    """A length of time in plain words: "1 minute", "90 minutes", "3 hours", "5 days"."""
    for unit, length, most in (("minute", 60, 120), ("hour", 3600, 48), ("day", 86400, math.inf)):
        count = max(1, round(seconds / length))
        if count < most:
            return f"{count} {unit}{'s' * (count > 1)}"
    raise AssertionError("days have no end")


_received: list[int] = []  # the signal that interrupts this command


@contextmanager
def remembered_interrupts() -> Iterator[None]:
    """Ctrl-C and the signals that end a process raise KeyboardInterrupt, and are remembered for `stop_if_interrupted`.

    An exception that comes while a library runs a callback of its own can be lost there.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        signal.default_int_handler(number, frame)

    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.default_int_handler, signal.SIG_DFL)  # not so where a signal is to be ignored
    signals = [s for s in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)) if s is not None]
    before = {number: signal.getsignal(number) for number in signals if signal.getsignal(number) in usual}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_if_interrupted() -> None:
    """Raises the KeyboardInterrupt of a Ctrl-C that was lost."""
    if _received:
        raise KeyboardInterrupt


def once(show: Callable[..., None]) -> Callable[..., None]:
    """A function that shows each message once: what is checked twice warns twice."""
    shown: set[str] = set()

    def show_new(message: Warning | str, *options: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            show(message, *options)

    return show_new


def show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Warnings for people become one line; those for programmers are left out."""
    if category is UserWarning:
        say(f"warning: {message}")


def say(text: str) -> None:
    """A line about what is being done, to standard error. Control characters of names become escapes."""
    plain = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in f"gen3r: {text}")
    with suppress(OSError):  # nobody listens
        print(plain, file=sys.stderr, flush=True)


def say_exif_fov(fov: float) -> None:
    """Says which angle of view [degrees] was found in a photo."""
    say(f"the photo's EXIF says an angle of view of {fov:.0f} degrees; --fov DEG changes it")
