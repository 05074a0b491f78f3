"""What the actions of `gen3r data` that read a dataset share."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.cli.common import say
from gen3r.errors import InputError

if TYPE_CHECKING:
    from gen3r.data.readers.base import Reader

# The keys of gen3r.data.readers.READERS, which loads too much for a help text.
DATASETS = (
    "re10k", "acid", "dl3dv", "tartanair", "kitti360", "waymo", "co3d", "mvimgnet", "vkitti2", "wildrgbd", "standard",
    "nerfstudio", "colmap", "filmed",
)  # fmt: skip


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, --dataset, --scene."""
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of the dataset, as it was downloaded")
    parser.add_argument(
        "--dataset", choices=("auto", *DATASETS), default="auto", metavar="NAME",
        help=f"{', '.join(DATASETS)} (default: found by the layout)",
    )  # fmt: skip
    add_scene_argument(parser)


def add_scene_argument(parser: argparse.ArgumentParser) -> None:
    """--scene."""
    parser.add_argument(
        "--scene", action="append", metavar="NAME", help="only scenes whose name holds NAME; may come again"
    )


def open_reader(source: Path, dataset: str = "auto", strict: bool = False) -> "Reader":
    """The dataset's reader, with a line that says what was found."""
    from gen3r.data.readers import detect_dataset, open_dataset

    reader = detect_dataset(source, strict) if dataset == "auto" else open_dataset(dataset, source, strict)
    say(f"{source}: {reader.name}, {len(reader)} scenes ({reader.licence})")
    return reader


def chosen_scenes(reader: "Reader", names: Sequence[str] | None) -> list[str]:
    """The scenes that --scene asks for; all without it."""
    chosen = [s for s in reader.scenes if names is None or any(name in s for name in names)]
    if not chosen:
        raise InputError(f"no scene of {reader.root} is called like that; the first is {reader.scenes[0]}")
    return chosen


def at_least_one(args: argparse.Namespace, *names: str) -> None:
    """Refuses numbers under 1."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
