"""`gen3r train`: the stages that make a model."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gen3r.cli.common import parse_output, whole_files_stay
from gen3r.errors import InputError
from gen3r.files import reserved_folder
from gen3r.locations import local_model
from gen3r.options import add_options, given_options, option, read_options
from gen3r.training.engine.config import TrainConfig
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.stages.config import CONFIGS

if TYPE_CHECKING:
    from gen3r.training.run import Run

_TRAINED = {
    "autoencoder": "the video autoencoder, on the clips",
    "geometry": "VGGT, on the clips",
    "adapter": "the geometry adapter, after autoencoder and geometry",
    "text": "the text encoder before diffusion trains it further, on the latents (optional)",
    "diffusion": "the transformer and its encoders, on the latents",
    "distill": "a transformer that samples in four steps, after diffusion (optional)",
    "lora": "LoRA adapters for the transformer, on the latents; needs gen3r[lora]",
}
_OF_TRANSFORMERS = ("diffusion", "distill", "lora")
_EXAMPLE = """\
example:
  gen3r data synthesize 2048 runs/nano/train
  for stage in autoencoder geometry adapter latents text diffusion; do
    gen3r train $stage
  done
  gen3r train package --out my-nano

A stage that was stopped goes on from its checkpoint. docs/train.md explains the stages, the published size and
training on several devices."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The run that a command works on."""

    folder: Path = option(Path("runs/nano"), "folder of the run (default: runs/nano)")
    start: str | None = option(None, "model to start from where the run has no checkpoint", metavar="MODEL")
    threads: int | None = option(None, "CPU threads (default: all cores)", positive=True)
    online: bool = option(
        False, "draw new scenes of the procedural world at every step instead of reading train/; needs gen3r[world]"
    )
    photos: Path | None = option(
        None,
        "folder of photos (.jpg, .png, or .zip files of them): textures of the scenes that --online draws, and the "
        "autoencoder's moving crops",
        metavar="FOLDER",
    )

    def __post_init__(self) -> None:
        if self.start:
            local_model(self.start)
        most = 64 * (os.cpu_count() or 1)
        if self.threads and self.threads > most:
            raise InputError(f"--threads must be at most {most} on this machine, not {self.threads}")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How a stage is launched."""

    recipe: Literal["nano", "published"] = option("nano", "nano's numbers, or the paper's (default: nano)")
    dry_run: bool = option(False, "report parameters, memory, steps and time; train nothing")
    tracker: tuple[str, ...] = option((), "tensorboard or wandb, beside metrics.jsonl; may be repeated", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class PackageOptions:
    """The model folder that is written."""

    out: Path = option(help="folder for the model", metavar="DIR", parse=parse_output)
    teacher: bool = option(False, "take the transformer of diffusion, not the distilled one")
    max_shard_size: str = option("5GB", "size limit of each file of weights (default: 5GB)", metavar="SIZE")


@dataclass(frozen=True, kw_only=True)
class LatentsOptions:
    """The clips that are encoded."""

    single_frame: bool = option(False, "encode the single-frame clips in single_frame/train")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand, with one parser per stage."""
    text = "Trains a model stage by stage. Each stage has its own options: gen3r train STAGE --help."
    parser = subparsers.add_parser("train", help="train a model, stage by stage", description=text, epilog=_EXAMPLE)
    stages = parser.add_subparsers(title="stages, in order", dest="stage", metavar="STAGE", required=True)
    for name in ("autoencoder", "geometry", "adapter"):
        _add_training(stages, name)
    parser = _add_command(
        stages, "latents", "the latent cache that the transformer learns from, after adapter", _encode
    )
    add_options(parser, LatentsOptions)
    add_options(parser, EncodeOptions, "clips", "shard", "num_shards")
    for name in ("text", *_OF_TRANSFORMERS):
        _add_training(stages, name)
    parser = _add_command(stages, "package", "the model folder, in bfloat16, after diffusion", _package)
    add_options(parser, PackageOptions)


def _add_command(stages: argparse._SubParsersAction, name: str, what: str, run: Any) -> argparse.ArgumentParser:
    parser = stages.add_parser(name, help=what, description=f"Makes {what}.")
    parser.set_defaults(run=run)
    add_options(parser, RunOptions)
    return parser


def _add_training(stages: argparse._SubParsersAction, name: str) -> None:
    parser = _add_command(stages, name, _TRAINED[name], _train)
    add_options(parser, LaunchOptions, tracker={"action": "append", "nargs": None})
    add_options(parser, CONFIGS[name])
    group = parser.add_argument_group("changes to the recipe (default: its own numbers)")
    names = ["steps", "minutes", "batch_size", "micro_batches", "learning_rate", "schedule", "optimizer", "seed"]
    names += ["keep_every", "shard"] + ["sheet_every"] * (name != "text")
    names += ["gradient_checkpointing"] * (name in _OF_TRANSFORMERS)
    optional: dict[str, Any] = {"required": False}
    add_options(group, TrainConfig, *names, steps=optional, batch_size=optional, learning_rate=optional)


def _open(args: argparse.Namespace, **recipe: Any) -> "Run":
    """The run that the options name."""
    options = read_options(args, RunOptions)
    import torch

    from gen3r.training.run import Run

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.photos and not options.online and args.stage != "autoencoder":
        raise InputError("--photos are textures of scenes that are drawn at every step; add --online")
    return Run(options.folder, options.start, online=options.online, photos=options.photos, **recipe)


def _train(args: argparse.Namespace) -> None:
    launch = read_options(args, LaunchOptions)
    changes = given_options(args, TrainConfig) | given_options(args, CONFIGS[args.stage])
    if launch.recipe == "published" and read_options(args, RunOptions).start is None:
        raise InputError("the published recipe starts from a model; name it with --start")
    from gen3r.training.engine.logs import check_trackers
    from gen3r.training.recipes import RECIPES

    check_trackers(launch.tracker)
    run = _open(args, recipe=RECIPES[launch.recipe]())
    if not launch.dry_run:
        run.train(args.stage, changes, launch.tracker)
        return
    lines = run.plan(args.stage, changes)
    if run.process.is_main_process:
        print("\n".join(lines))


def _encode(args: argparse.Namespace) -> None:
    single_frame, options = read_options(args, LatentsOptions).single_frame, read_options(args, EncodeOptions)
    run = _open(args)
    with whole_files_stay(run.latents_folder(single_frame)):
        run.encode_latents(options, single_frame)


def _package(args: argparse.Namespace) -> None:
    options = read_options(args, PackageOptions)
    with reserved_folder(options.out):
        run = _open(args)
        from gen3r.training.package import package

        package(run, options.out, options.teacher, options.max_shard_size)
