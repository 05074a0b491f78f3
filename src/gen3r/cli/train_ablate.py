"""`gen3r train ablate`: variants of nano against each other."""

import argparse
from pathlib import Path

from gen3r.ablation.variants import VARIANTS, chosen
from gen3r.cli.common import say
from gen3r.cli.data_common import at_least_one
from gen3r.errors import InputError

_DESCRIPTION = """\
Trains variants of nano, each with one change, from the same frozen models on the same clips for as many steps, measures
them on held-out procedural scenes, and writes a table and curves. What is trained starts afresh. A run that has its
result is not done again, and one that was stopped goes on: give the same command again. Needs gen3r[world]."""
_EPILOG = """\
variants (--only takes names or how they start, such as kl or denoiser):
{variants}

kl-* train the adapter and then the transformer on its latents; adapter-* the adapter alone, to be compared with
kl-adaptive; denoiser-* the transformer on the starting model's adapter, to be compared with denoiser-joint.

examples:
  gen3r train ablate --dry-run                                     what there is to do, and how long it takes
  gen3r train ablate --only kl-adaptive adapter                    which adapter is small enough?
  gen3r train ablate --only denoiser --steps 1000 --clips 512 --folder runs/longer
  gen3r train ablate --threads 1 --part 0 --parts 2                two processes, one core each;
  gen3r train ablate --threads 1 --part 1 --parts 2                the last one writes the whole table"""


def add_parser(stages: argparse._SubParsersAction) -> None:
    """Adds the action."""
    variants = "\n".join(f"  {name:<24}{variant.what}" for name, variant in VARIANTS.items())
    parser = stages.add_parser("ablate", description=_DESCRIPTION, epilog=_EPILOG.format(variants=variants))
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/ablate"), help="clips, latents and results (default: runs/ablate)"
    )
    parser.add_argument(
        "--start", default="nano", metavar="MODEL", help="model whose VGGT, autoencoder and adapter are frozen "
        "(default: nano)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("docs/ablations"), help="table and curves (default: docs/ablations)"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants (default: all)")
    scale = parser.add_argument_group("scale (the same for all results of a folder, but for the seeds)")
    scale.add_argument("--seeds", type=int, default=2, help="runs of each variant (default: 2)")
    scale.add_argument("--steps", type=int, default=120, help="steps of a stage (default: 120)")
    scale.add_argument("--clips", type=int, default=64, help="training clips (default: 64)")
    scale.add_argument("--scenes", type=int, default=12, help="held-out scenes (default: 12)")
    parser.add_argument("--part", type=int, default=0, help="this process's number, from 0")
    parser.add_argument("--parts", type=int, default=1, help="processes that share the runs (default: 1)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their time; train nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Runs what has no result yet, and writes the table after every run."""
    at_least_one(args, "seeds", "steps", "clips", "scenes", "parts", "threads")
    if not 0 <= args.part < args.parts:
        raise InputError(f"there is no part {args.part} of {args.parts}; count from 0")
    for name in args.only or ():
        if not chosen([name]):
            raise InputError(f"no variant is called {name}; they are {', '.join(VARIANTS)}")
    import torch

    from gen3r.ablation.report import write_report
    from gen3r.ablation.runner import Ablation

    if args.threads:
        torch.set_num_threads(args.threads)
    ablation = Ablation(args.folder, args.start, args.steps, args.clips, args.scenes)
    runs = [(name, seed) for seed in range(args.seeds) for name in chosen(args.only)][args.part :: args.parts]
    if args.dry_run:
        left = {(name, seed): ablation.seconds(name) for name, seed in runs if not ablation.path(name, seed).exists()}
        for name, seed in runs:
            time = f"{left[name, seed] / 60:.1f} min" if (name, seed) in left else "done"
            print(f"{name:<24} seed {seed}  {' and '.join(VARIANTS[name].stages):<22}{time:>9}")
        print(f"about {sum(left.values()) / 3600:.1f} hours on one core with bfloat16 units")
        return
    ablation.run(runs, lambda: write_report(args.folder, args.out))
    for path in write_report(args.folder, args.out):
        say(f"wrote {path}")
