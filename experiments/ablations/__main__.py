"""`python -m experiments.ablations`: trains variants of nano, and compares their scores."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.ablations.runner import Ablation
from experiments.ablations.stages import own_geometry_kind
from experiments.ablations.variants import VARIANTS, chosen
from gen3r.cli.common import Parser, exit_code, whole_files_stay
from gen3r.errors import InputError
from gen3r.options import add_options, option, read_options

_DESCRIPTION = """\
Trains variants of nano with one change each, from the same frozen models on the same clips with the same number of
steps, evaluates them on held-out procedural scenes, and writes a table and curves. Trained components start from new
weights. Results are kept, and interrupted runs go on: give the same command again. Needs gen3r[world,ablation]."""
_EPILOG = """\
variants:
{variants}

kl-* train the adapter, then the transformer on its latents. adapter-* train the adapter; compare them with kl-adaptive.
denoiser-* train the transformer on the starting model's adapter; compare them with denoiser-joint.

examples:
  python -m experiments.ablations --dry-run                              list the runs, and their estimated time
  python -m experiments.ablations --only kl-adaptive adapter             which adapter is small enough?
  python -m experiments.ablations --only denoiser --steps 1000 --clips 512 --out runs/longer
  python -m experiments.ablations --threads 1 --shard 0 --num-shards 2   two processes, one core each;
  python -m experiments.ablations --threads 1 --shard 1 --num-shards 2   the last one to end has the whole table"""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The runs of one process.

    Raises:
        InputError: a name or a number is out of range.
    """

    only: tuple[str, ...] = option((), "these variants, by name or first letters (default: all)", metavar="NAME")
    seeds: int = option(2, "runs of each variant (default: 2)", positive=True)
    shard: int = option(0, "number of this process, from 0 (default: 0)", metavar="I")
    num_shards: int = option(1, "number of processes that share the runs (default: 1)", metavar="N", positive=True)
    threads: int | None = option(None, "CPU threads (default: all cores)", positive=True)
    dry_run: bool = option(False, "list the runs and their estimated time; train nothing")

    def __post_init__(self) -> None:
        if not 0 <= self.shard < self.num_shards:
            raise InputError(f"there is no shard {self.shard} of {self.num_shards}; count from 0")
        for name in self.only:
            if not chosen([name]):
                raise InputError(f"no variant is called {name}; they are {', '.join(VARIANTS)}")

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Variants and seeds of this process."""
        names = chosen(list(self.only) or None)
        return [(name, seed) for seed in range(self.seeds) for name in names][self.shard :: self.num_shards]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    variants = "\n".join(f"  {name:<24}{variant.change}" for name, variant in VARIANTS.items())
    epilog = _EPILOG.format(variants=variants)
    parser = Parser(prog="python -m experiments.ablations", description=_DESCRIPTION, epilog=epilog)
    add_options(parser, Launch)
    add_options(parser.add_argument_group("settings that all results of a folder share"), Ablation)
    return exit_code(lambda: _run(parser.parse_args(argv)))


def _run(args: argparse.Namespace) -> None:
    launch, ablation = read_options(args, Launch), read_options(args, Ablation)
    if launch.threads:
        torch.set_num_threads(launch.threads)
    if launch.dry_run:
        _list(ablation, launch.runs)
        return
    write_report = _report_writer()
    with own_geometry_kind(), whole_files_stay(ablation.out):
        ablation.run(launch.runs, lambda: write_report(ablation.out))
    for path in write_report(ablation.out):
        print(path)


def _report_writer() -> Callable[[Path], list[Path]]:
    """`write_report`, which needs an extra."""
    try:
        from experiments.ablations.report import write_report
    except ModuleNotFoundError as error:
        raise InputError(f"the report needs an extra ({error}): pip install 'gen3r[ablation]'") from error
    return write_report


def _list(ablation: Ablation, runs: Sequence[tuple[str, int]]) -> None:
    """Prints the runs, and the estimated time of those without a result."""
    total = 0.0
    for name, seed in runs:
        seconds = None if ablation.path(name, seed).exists() else ablation.estimate(name)
        total += seconds or 0.0
        time = "done" if seconds is None else f"{seconds / 60:.1f} min"
        print(f"{name:<24} seed {seed}  {' and '.join(VARIANTS[name].trains):<22}{time:>9}")
    print(f"about {total / 3600:.1f} hours on one core with bfloat16 units")


if __name__ == "__main__":
    sys.exit(main())
