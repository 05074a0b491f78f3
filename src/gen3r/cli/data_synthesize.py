"""`gen3r data synthesize`: clips of the procedural world."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from gen3r.cli.common import whole_files_stay
from gen3r.cli.data_common import add_action
from gen3r.data.synthetic.options import WorldOptions
from gen3r.errors import InputError
from gen3r.options import option, read_options

_DESCRIPTION = """\
Renders clips with exact depth, cameras and captions into shards, one seed per clip. The same command gives the same
clips, and one that was stopped goes on. Needs the extra gen3r[world]."""
_EXAMPLES = """\
examples:
  gen3r data synthesize 2048 runs/nano/train
  gen3r data synthesize 512 runs/moving --movers --seed 512
  gen3r data synthesize 512 runs/real --textures my-photos
  gen3r data synthesize 64 runs/rainy --place street --time night --weather rain"""


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions(WorldOptions):
    count: int = option(help="how many clips", metavar="N", positional=True, positive=True)
    folder: Path = option(help="folder for the shards", metavar="DST", positional=True)
    split: Literal["train", "test"] = option("train", "the splits share no scene (default: train)")
    seed: int = option(0, "of the first clip; each clip has the next one (default: 0)", metavar="N")
    frames: int = option(17, "frames per clip (default: 17)", metavar="N", positive=True)
    size: int = option(112, "height and width in pixels (default: 112)", metavar="N", positive=True)
    workers: int = option(2, "processes (default: 2)", metavar="N", positive=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, as {self.seed} is")

    @property
    def world(self) -> WorldOptions:
        """The world's part of the options."""
        return WorldOptions(**{field.name: getattr(self, field.name) for field in fields(WorldOptions)})


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    add_action(
        actions, "synthesize", SynthesizeOptions, run, help="render posed RGB-D clips of the procedural world",
        description=_DESCRIPTION, epilog=_EXAMPLES,
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Renders."""
    options = read_options(args, SynthesizeOptions)
    from gen3r.data.synthesis import synthesize

    with whole_files_stay(options.folder):
        synthesize(
            options.folder, options.count, options.split, options.frames, options.size, options.workers, options.world,
            options.seed,
        )  # fmt: skip
