"""`gen3r reconstruct`: depth, points and cameras of pictures that exist, by VGGT alone."""

import argparse
from pathlib import Path

from gen3r.cli.common import (
    add_model_arguments,
    add_output_arguments,
    enough_memory,
    load_pipeline,
    parse_size,
    read_pictures,
    say,
    write_scene,
)
from gen3r.errors import InputError

_EXAMPLES = """\
examples:
  gen3r reconstruct clip.mp4 --frames 17 --out scene
  gen3r reconstruct pictures/ --size 112x224 --out scene
  gen3r reconstruct left.png right.png --out scene"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="depth, points and cameras of a video or of photos",
        description="Reconstructs a scene from a video, a folder of pictures, or pictures, with nothing generated.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="one video, one folder, or pictures")
    group = parser.add_argument_group("what to look at")
    group.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="pictures, spread evenly (default: all named ones; else the model's number)",
    )
    group.add_argument("--size", type=parse_size, help="N or HEIGHTxWIDTH, multiples of 14 (default: the model's)")
    add_model_arguments(parser)
    add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Reads, looks, writes."""
    from gen3r.files import check_folder
    from gen3r.media.images import evenly_spaced
    from gen3r.media.sequence import ImageSequence

    check_folder(args.out, args.overwrite)
    if args.frames is not None and args.frames < 1:
        raise InputError(f"give at least 1 frame, not {args.frames}")
    pictures = ImageSequence.open(args.inputs)
    from gen3r.checkpoints import model_defaults  # loads all model classes: after the quick checks

    defaults = model_defaults(args.model)
    height, width = args.size or (defaults["height"], defaults["width"])
    if min(height, width) < 14 or height % 14 or width % 14:
        raise InputError(f"the size must be in multiples of 14, not {height} x {width}")
    # ImageSequence that were named one by one are all meant; a video has more frames than anyone needs.
    usual = len(args.inputs) if len(args.inputs) > 1 else defaults["num_frames"]
    frames = min(pictures.count, usual if args.frames is None else args.frames)
    images = read_pictures(pictures, evenly_spaced(pictures.count, frames), height, width)
    pipe = load_pipeline(args)
    say(f"reconstructing {frames} frames of {height} x {width} ...")
    with enough_memory():
        scene = pipe.reconstruct(images, height, width)
    scene.settings.update(model=str(args.model), inputs=[p.name for p in args.inputs])
    write_scene(scene, args)
