"""`gen3r data synthesize`: clips of the procedural worlds."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from gen3r.cli.common import whole_files_stay
from gen3r.cli.data_common import add_action
from gen3r.data.synthetic.options import LargeOptions, WorldName
from gen3r.errors import InputError
from gen3r.options import given_options, option, read_options

_DESCRIPTION = """\
Renders clips with exact depth, cameras and captions into shards, one seed per clip. The same command gives the same
clips, and one that was stopped goes on. Needs the extra gen3r[world]."""
_EXAMPLES = """\
examples:
  gen3r data synthesize 2048 runs/nano/train
  gen3r data synthesize 512 runs/wide --world large --movers
  gen3r data synthesize 512 runs/wider --world large --movers --seed 512
  gen3r data synthesize 64 runs/rainy --world large --place street --time night --weather rain"""


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions(LargeOptions):
    count: int = option(help="how many clips", metavar="N", positional=True, positive=True)
    folder: Path = option(help="folder for the shards", metavar="DST", positional=True)
    split: Literal["train", "test"] = option("train", "the splits share no scene (default: train)")
    world: WorldName = option(
        "small",
        "small: rooms and plazas, on which nano is trained; large: rooms, corridors, streets, plazas and open terrain, "
        "at any time of day and in any weather (default: small)",
    )
    seed: int = option(0, "of the first clip; each clip has the next one (default: 0)", metavar="N")
    skies: float = option(
        0.0,
        "small world: the share of the clips, 0 to 1, whose sky is replaced, where they have one; half of these also "
        "lose distant geometry, so that the sky reaches the horizon (default: 0)",
        metavar="SHARE",
    )
    frames: int = option(17, "frames per clip (default: 17)", metavar="N", positive=True)
    size: int = option(112, "height and width in pixels (default: 112)", metavar="N", positive=True)
    workers: int = option(2, "processes (default: 2)", metavar="N", positive=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, as {self.seed} is")
        if self.world == "small" and self.large != LargeOptions():
            raise InputError("--place, --time, --weather and --movers are the large world's; add --world large")
        if not 0 <= self.skies <= 1:
            raise InputError(f"--skies is a share of the clips, from 0 to 1, not {self.skies:g}")
        if self.world == "large" and self.skies:
            raise InputError("--skies is the small world's; the large one draws its own, see --time and --weather")

    @property
    def large(self) -> LargeOptions:
        """The large world's part of the options."""
        return LargeOptions(**{field.name: getattr(self, field.name) for field in fields(LargeOptions)})


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    add_action(
        actions, "synthesize", SynthesizeOptions, run, help="render posed RGB-D clips of a procedural world",
        description=_DESCRIPTION, epilog=_EXAMPLES,
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Renders."""
    options = read_options(args, SynthesizeOptions)
    from gen3r.data.synthetic import synthesize

    large = options.large if given_options(args, LargeOptions) else None
    with whole_files_stay(options.folder):
        synthesize(
            options.folder, options.count, options.split, options.frames, options.size, options.workers, options.world,
            large, options.seed, options.skies,
        )  # fmt: skip
