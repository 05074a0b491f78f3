"""Options and steps of the actions of `gen3r data` that read a dataset."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gen3r.cli.common import say, whole_files_stay
from gen3r.data.readers import READERS
from gen3r.options import add_options, option

if TYPE_CHECKING:
    from gen3r.data.readers.base import Reader
    from gen3r.data.workers import SceneResult

Result = TypeVar("Result", bound="SceneResult")


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """A dataset, and which of its scenes."""

    dataset: str = option(
        "auto", f"{', '.join(READERS)} (default: recognised by the layout)", metavar="NAME", choices=("auto", *READERS)
    )
    source: Path = option(help="folder of the dataset, as it was downloaded", metavar="SRC", positional=True)
    scene: Sequence[str] = option((), "only scenes whose name holds NAME; may be repeated", metavar="NAME")

    def open(self, strict: bool = False) -> "Reader":
        """The reader of these scenes, with a line that says what was found."""
        reader = open_reader(self.source, self.dataset, strict)
        return reader.select(self.scene) if self.scene else reader


def add_action(
    actions: argparse._SubParsersAction, name: str, options: type, run: Callable[..., Any], **texts: Any
) -> argparse.ArgumentParser:
    """A parser of an action with the options of a dataclass. texts: help, description and epilog."""
    parser = actions.add_parser(name, **texts)
    repeated = {"scene": {"action": "append"}} if issubclass(options, SourceOptions) else {}
    add_options(parser, options, **repeated)
    parser.set_defaults(run=run)
    return parser


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, --dataset, --scene."""
    add_options(parser, SourceOptions, dataset={"default": "auto"}, scene={"action": "append", "default": None})


def open_reader(source: Path, dataset: str = "auto", strict: bool = False) -> "Reader":
    """The dataset's reader, with a line that says what was found."""
    from gen3r.data.readers import detect_dataset, open_dataset

    reader = detect_dataset(source, strict) if dataset == "auto" else open_dataset(dataset, source, strict)
    say(f"{source}: {reader.name}, {len(reader)} scenes (licence: {reader.licence})")
    return reader


def each_scene(results: Iterable[Result], total: int, folder: Path) -> tuple[list[Result], str]:
    """All results, with a progress bar and a warning per skipped scene, and "2 were there, 1 skipped".

    Raises:
        KeyboardInterrupt: says that `folder` keeps what is whole.
    """
    from tqdm import tqdm

    done: list[Result] = []
    skipped = 0
    with whole_files_stay(folder):
        for result in tqdm(results, total=total, desc="scenes", unit="scene"):
            done.append(result)
            if result.error:
                skipped += 1
                say(f"warning: {result.scene} skipped ({skipped} so far): {result.error}")
    return done, f"{sum(result.there for result in done)} were there, {skipped} skipped"
