"""`gen3r data show`: a contact sheet of a dataset."""

import argparse
from pathlib import Path

from gen3r.cli.common import say
from gen3r.cli.data_common import add_source_arguments, at_least_one, chosen_scenes, open_reader
from gen3r.errors import InputError


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "show",
        help="a contact sheet with depth and the cameras' path from above",
        description="Draws some scenes of a dataset: frames, depth where there is any, and the cameras' path and the\n"
        "points that they see from above.",
        epilog="example:\n  gen3r data show downloads/wildrgbd --count 6 --out wildrgbd.png",
    )
    add_source_arguments(parser)
    parser.add_argument("--count", type=int, default=4, metavar="N", help="scenes, spread evenly (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), metavar="FILE", help="(default: sheet.png)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Reads a few frames of each scene, draws, writes."""
    at_least_one(args, "count")
    if args.out.suffix.lower() not in (".png", ".jpg"):
        raise InputError(f"{args.out} must be a .png or .jpg")
    reader = open_reader(args.source, args.dataset)
    scenes = chosen_scenes(reader, args.scene)
    from gen3r.export.dataset_sheet import FRAMES, SceneView, dataset_sheet
    from gen3r.files import whole_file
    from gen3r.media.images import evenly_spaced

    views = []
    for i in sorted(set(evenly_spaced(len(scenes), min(args.count, len(scenes))))):
        try:
            record = reader.read(scenes[i])
            numbers = sorted(set(evenly_spaced(len(record), min(FRAMES, len(record)))))
            depth = [record.read_depth(n) for n in numbers] if record.read_depth else None
            frames = [record.read_frame(n) for n in numbers]
            points = record.read_points().points if record.read_points else None
            views.append(
                SceneView(
                    record.name, record.captions[:1], frames, depth, numbers, record.cameras, record.metric, points
                )
            )
        except InputError as error:
            say(f"warning: {scenes[i]} skipped: {error}")
    if not views:
        raise InputError(f"none of the {args.count} scenes can be read; see gen3r data check {args.source}")
    with whole_file(args.out) as partial:
        dataset_sheet(views).save(partial)
    print(args.out)
