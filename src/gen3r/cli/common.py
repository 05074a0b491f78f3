"""Arguments and steps that several subcommands share."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.errors import InputError

if TYPE_CHECKING:
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

DTYPES = ("float32", "bfloat16", "float16")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --device, --dtype."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default="nano", metavar="MODEL", help="nano (in the package), a model folder, or a Hub id (default: nano)"
    )
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: cpu)")
    group.add_argument("--dtype", choices=DTYPES, help="type of the weights (default: as stored; float32 on a CPU)")


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--out, --overwrite."""
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the scene's files")
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


def load_pipeline(args: argparse.Namespace) -> "Gen3RPipeline":
    """The pipeline of --model on --device, with a line that says so."""
    import torch

    from gen3r.pipeline import Gen3RPipeline

    try:
        device = torch.device(args.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"the device {args.device} cannot be used here; try --device cpu") from error
    chosen = args.dtype or ("float32" if device.type == "cpu" else None)
    say(f"loading {args.model} ...")
    pipe = Gen3RPipeline.from_pretrained(args.model, torch_dtype=getattr(torch, chosen) if chosen else None)
    pipe.to(device)
    pipe.set_progress_bar_config(desc="denoising", unit="step", file=sys.stderr)
    return pipe


def write_scene(scene: "Scene", args: argparse.Namespace) -> None:
    """Writes all files of a scene and says where."""
    from gen3r.export import save_scene

    say("writing ...")
    for path in save_scene(scene, args.out, args.overwrite):
        print(path)


def say(text: str) -> None:
    """A line about what is being done, to standard error."""
    print(f"gen3r: {text}", file=sys.stderr, flush=True)
