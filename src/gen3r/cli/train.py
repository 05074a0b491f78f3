"""`gen3r train`: the stages that make a model, and LoRA adapters."""

import argparse
from pathlib import Path

from gen3r.cli import train_ablate
from gen3r.cli.common import whole_files_stay
from gen3r.cli.data_common import at_least_one
from gen3r.errors import InputError

_STAGES = """\
stages, in order (each goes on from its own checkpoint when it was stopped):
  autoencoder         the video autoencoder              from the clips
  geometry            VGGT                               from the clips
  adapter             the geometry adapter               after autoencoder and geometry
  appearance-latents  half of the latent cache           after autoencoder; --part/--parts share it among processes
  geometry-latents    its second half                    after adapter
  warped-latents      what given frames show from the    after adapter; for a transformer that is told it, as nano's
                      other cameras
  text                the text encoder, ahead of the     after the latents; may be left out
                      denoiser, which trains it further
  diffusion           the transformer and its encoders   after the latents
  distill             a transformer of four steps        after diffusion; may be left out
  package             the model folder, in bfloat16      after diffusion; --out says where. The distilled transformer
                                                         is taken if there is one, with its four steps; not with
                                                         --teacher
beside them:
  ablate              variants of nano against each other, each with one change (gen3r train ablate --help)

example:
  gen3r data synthesize 2048 runs/nano/train
  for stage in autoencoder geometry adapter {appearance,geometry,warped}-latents text diffusion
  do gen3r train $stage; done
  gen3r train package --out my-nano && gen3r evaluate --model my-nano

gen3r train STAGE --help says what may be changed, gen3r train STAGE --dry-run what the stage would take. A folder
held-out/ beside train/ (gen3r data synthesize 3 runs/nano/held-out --split test) adds sample sheets. Scenes of one
frame in stills/train (gen3r data synthesize 12288 runs/nano/stills/train --frames 1 --seed 20000), whose appearance-
and geometry-latents were made with --stills, teach text and diffusion more words. On several devices: torchrun
--nproc_per_node N -m -- gen3r.cli.main train STAGE, or accelerate launch -m gen3r.cli.main train STAGE.

the published size, from datasets in folders of their names (see docs/train.md):
  gen3r train adapter --preset published --start models/published --folder runs/adapter
  gen3r train diffusion --preset published --start models/adapted --folder runs/diffusion
  gen3r train diffusion --lora 16 --preset published --start models/published --folder runs/mine"""


_SWITCHES = {
    "--gradient-checkpointing": "compute the transformer's blocks again in the backward pass, to save memory",
    "--shard": "split weights, gradients and optimizer state over the processes (FSDP2, with --optimizer adamw)",
}
_CHANGES = (
    "steps", "minutes", "batch_size", "micro_batches", "learning_rate", "schedule", "optimizer", "seed", "keep_every",
    "sheet_every", "gradient_checkpointing", "shard",
)  # fmt: skip


_STAGE_NAMES = (
    "autoencoder", "geometry", "adapter", "appearance-latents", "geometry-latents", "warped-latents", "text", "diffusion", "distill", "package",
)  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand with every stage."""
    parser = subparsers.add_parser(
        "train",
        help="train a model, stage by stage",
        description="Trains one stage: of nano on clips of the procedural world, or of the published size on datasets.",
        epilog=_STAGES,
    )
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    for name in _STAGE_NAMES:
        _add_arguments(stages.add_parser(name))
    train_ablate.add_parser(stages)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a stage."""
    parser.add_argument("--folder", type=Path, default=Path("runs/nano"), help="the run's folder (default: runs/nano)")
    parser.add_argument(
        "--start",
        metavar="MODEL",
        help="model (nano, a folder) that stands in where the run has no checkpoint",
    )
    parser.add_argument(
        "--preset", choices=("nano", "published"), default="nano",
        help="the recipe: nano's, or the paper's for the published size, from --start (default: nano)",
    )  # fmt: skip
    parser.add_argument(
        "--lora", type=int, metavar="RANK",
        help="diffusion: train adapters of this rank alone, in the folder lora/; needs gen3r[lora]",
    )  # fmt: skip
    parser.add_argument(
        "--decoder-only", action="store_true",
        help="autoencoder: train the decoder alone; latents, and what was trained on them, stay as they are",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="package: the model folder to write")
    parser.add_argument("--teacher", action="store_true", help="package: the transformer of many steps, not distilled")
    parser.add_argument("--clips", type=int, help="latents: how many clips (default: all)")
    parser.add_argument(
        "--stills",
        action="store_true",
        help="latents: of the scenes of one frame in stills/train, for words",
    )
    parser.add_argument(
        "--keep-latents", action="store_true",
        help="adapter: keep to the geometry latents of --start though VGGT has become another; the transformer that "
        "was trained on them needs no training then",
    )  # fmt: skip
    parser.add_argument(
        "--endless", action="store_true",
        help="autoencoder, geometry, adapter: draw new scenes of the small world for every step instead of reading "
        "train/; package: measure latents on such scenes; needs gen3r[world]",
    )  # fmt: skip
    parser.add_argument("--part", type=int, default=0, help="latents: this process's number, from 0")
    parser.add_argument("--parts", type=int, default=1, help="latents: how many processes share the work")
    changes = parser.add_argument_group("changes to the recipe (default: the stage's own numbers)")
    changes.add_argument("--steps", type=int)
    changes.add_argument(
        "--minutes", type=float, help="time of this launch: the schedule comes to its end in it, however many steps fit"
    )
    changes.add_argument(
        "--batch-size", type=int, help="clips (geometry, adapter: frames) of a step, over all processes"
    )
    changes.add_argument(
        "--micro-batches",
        type=int,
        help="parts of a batch: processes share them and add gradients up (default: 1 each)",
    )
    changes.add_argument("--learning-rate", type=float)
    changes.add_argument("--schedule", choices=("wsd", "cosine"), help="warm up, stay and fall, or warm up and fall")
    changes.add_argument("--optimizer", choices=("muon", "adamw"))
    changes.add_argument("--seed", type=int)
    changes.add_argument("--keep-every", type=int, metavar="STEPS", help="checkpoints that stay, beside the newest two")
    changes.add_argument("--sheet-every", type=int, metavar="STEPS", help="steps between sample sheets")
    for flag, what in _SWITCHES.items():
        changes.add_argument(flag, action="store_const", const=True, help=what)
    parser.add_argument("--dry-run", action="store_true", help="say parameters, memory, steps and time; train nothing")
    parser.add_argument(
        "--tracker", action="append", default=[], metavar="NAME", help="tensorboard or wandb, beside metrics.jsonl"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Runs the stage."""
    at_least_one(args, "steps", "batch_size", "micro_batches", "clips", "parts", "threads", "lora")
    if args.minutes is not None and not args.minutes > 0:
        raise InputError(f"--minutes must be over 0, not {args.minutes:g}")
    if args.preset == "published" and args.start is None:
        raise InputError("the published preset goes on from a model; name it with --start")
    if args.lora and args.stage != "diffusion":
        raise InputError(f"--lora trains adapters of diffusion's transformer, not {args.stage}")
    if args.stills and not args.stage.endswith("-latents"):
        raise InputError(f"--stills makes latents, and {args.stage} none; it takes those in stills/ if they are there")
    if args.endless and args.stage not in ("autoencoder", "geometry", "adapter", "package"):
        raise InputError(
            f"--endless is for autoencoder, geometry, adapter and package; {args.stage} goes on from cached latents"
        )
    if args.keep_latents and (args.stage != "adapter" or args.start is None):
        raise InputError("--keep-latents is for the adapter, and keeps those of the model that --start names")
    if args.decoder_only and args.stage != "autoencoder":
        raise InputError(f"--decoder-only is for the autoencoder, not {args.stage}")
    import torch
    from accelerate import Accelerator

    from gen3r.checkpoints.lora import check_peft
    from gen3r.training.recipes import PRESETS
    from gen3r.training.run import BUILT_ON, Run

    if args.lora:
        check_peft()
    if args.threads:
        torch.set_num_threads(args.threads)
    this_run = Run(
        args.folder, args.start, preset=PRESETS[args.preset], endless=args.endless, keep_latents=args.keep_latents
    )
    if args.dry_run and args.stage not in BUILT_ON:
        raise InputError(f"--dry-run tells of stages that are trained, such as diffusion; {args.stage} is none")
    if args.stage.endswith("-latents"):
        with whole_files_stay(args.folder / ("stills/latents" if args.stills else "latents")):
            this_run.encode_latents(args.stage.removesuffix("-latents"), args.clips, args.part, args.parts, args.stills)
    elif args.stage == "package":
        if args.out is None:
            raise InputError("package needs --out, a folder that does not exist yet")
        this_run.package(args.out, args.teacher)
    else:
        given = {k: getattr(args, k) for k in _CHANGES}
        changes = {k: v for k, v in given.items() if v is not None}
        stage, arguments = ("lora", {"lora": args.lora}) if args.lora else (args.stage, {})
        if args.decoder_only:
            arguments = {"decoder_only": True}
        if args.dry_run:
            lines = this_run.plan(stage, changes, **arguments)
            if Accelerator().is_main_process:
                print("\n".join(lines))
        else:
            this_run.train(stage, changes, args.tracker, **arguments)
