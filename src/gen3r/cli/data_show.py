"""`gen3r data show`: a contact sheet of a dataset."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from gen3r.cli.common import say
from gen3r.cli.data_common import SourceOptions, add_action
from gen3r.errors import InputError
from gen3r.options import option, read_options

_DESCRIPTION = """\
Draws some scenes of a dataset: frames, depth where there is any, and the cameras' path and points from above."""


@dataclass(frozen=True, kw_only=True)
class ShowOptions(SourceOptions):
    count: int = option(4, "scenes, evenly spaced (default: 4)", metavar="N", positive=True)
    out: Path = option(Path("sheet.png"), "(default: sheet.png)", metavar="FILE")

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in (".png", ".jpg"):
            raise InputError(f"{self.out} must be a .png or .jpg")


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    add_action(
        actions, "show", ShowOptions, run, help="a contact sheet with depth and the cameras' path from above",
        description=_DESCRIPTION, epilog="example:\n  gen3r data show downloads/wildrgbd --count 6 --out wildrgbd.png",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Reads a few frames of each scene, draws, writes."""
    options = read_options(args, ShowOptions)
    from gen3r.files import check_file, whole_file

    check_file(options.out)
    reader = options.open()
    from gen3r.data.check.sheet import SceneView, dataset_sheet
    from gen3r.media.images import evenly_spaced

    views = []
    for i in evenly_spaced(len(reader), min(options.count, len(reader))):
        try:
            views.append(SceneView.read(reader[i]))
        except InputError as error:
            say(f"warning: {reader.scenes[i]} skipped: {error}")
    if not views:
        raise InputError(f"none of the {options.count} scenes can be read; see gen3r data check {options.source}")
    with whole_file(options.out) as partial:
        dataset_sheet(views).save(partial)
    print(options.out)
