"""`gen3r reconstruct`: depth, points and cameras of pictures that exist, by VGGT alone."""

import argparse
from pathlib import Path

from gen3r.cli.common import add_model_arguments, add_output_arguments, load_pipeline, parse_size, say, write_scene
from gen3r.errors import InputError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="depth, points and cameras of a video or of photos",
        description="Reconstructs a scene from a video, a folder of pictures, or pictures, with nothing generated.",
        epilog="example:\n  gen3r reconstruct clip.mp4 --frames 17 --out scene",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="a video, a folder of pictures, or pictures")
    parser.add_argument("--frames", type=int, help="frames taken evenly from a video or folder (default: the model's)")
    parser.add_argument("--size", type=parse_size, help="N or HEIGHTxWIDTH, multiples of 14 (default: the model's)")
    add_model_arguments(parser)
    add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Reads, looks, writes."""
    from gen3r.checkpoints import model_defaults
    from gen3r.export import check_output
    from gen3r.media import read_frames

    check_output(args.out, args.overwrite)
    defaults = model_defaults(args.model)
    height, width = args.size or (defaults["height"], defaults["width"])
    frames = defaults["num_frames"] if args.frames is None else args.frames
    if frames < 1 or min(height, width) < 14 or height % 14 or width % 14:
        raise InputError(f"give at least 1 frame and a size in multiples of 14, not {frames} frames of {height} x {width}")
    images = read_frames(args.inputs, height, width, frames)
    pipe = load_pipeline(args)
    say(f"reconstructing {len(images)} frames of {height} x {width} ...")
    scene = pipe.reconstruct(images)
    scene.settings.update(model=str(args.model), inputs=[p.name for p in args.inputs])
    write_scene(scene, args)
