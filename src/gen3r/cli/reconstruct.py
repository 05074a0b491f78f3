"""`gen3r reconstruct`: depth, points and cameras of a video or of photos, with nothing generated."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from gen3r.cli.common import (
    GeometryOptions,
    ModelOptions,
    OutputOptions,
    enough_memory,
    load_pipeline,
    names_of_models,
    say,
    say_exif_fov,
    write_scene,
)
from gen3r.options import add_options, given_options, option, parse_size, read_options
from gen3r.request import Request, check_fov, check_patches

_EXAMPLES = """\
examples:
  gen3r reconstruct clip.mp4 --frames 17 --out scene
  gen3r reconstruct images/ --size 112x224 --out scene
  gen3r reconstruct left.png right.png --out scene"""


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """What is reconstructed."""

    inputs: tuple[Path, ...] = option((), "one video, one folder, or images", metavar="INPUT", positional=True)
    frames: int | None = option(
        None,
        "number of images, evenly spaced (default: all that are named; else the model's number)",
        metavar="N",
        positive=True,
    )
    size: tuple[int, int] | None = option(
        None,
        "N or HEIGHTxWIDTH, multiples of 14 (default: the images' shape with the model's number of pixels; with "
        "--geometry, up to 518)",
        parse=parse_size,
    )
    feed_forward: bool = option(False, "VGGT's prediction as it is, not refined by matching the images")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="depth, points and cameras of a video or of photos",
        description="Reconstructs a scene from a video, a folder of images, or images, with nothing generated. VGGT\n"
        "predicts cameras and depth; three or more images that can be matched refine both.",
        epilog=_EXAMPLES,
    )
    add_options(parser, ReconstructOptions, "inputs", inputs={"nargs": "+"})
    scene = parser.add_argument_group("what to reconstruct")
    add_options(scene, ReconstructOptions, "frames", "size")
    add_options(scene, Request, "fov")
    add_options(scene, ReconstructOptions, "feed_forward")
    model = parser.add_argument_group("model")
    add_options(model, ModelOptions)
    add_options(model, GeometryOptions)
    add_options(parser.add_argument_group("output"), OutputOptions)
    parser.set_defaults(run=OutputOptions.reserve(run))


def run(args: argparse.Namespace) -> None:
    """Reads the images, runs VGGT, writes the scene."""
    from gen3r.media.sequence import ImageSequence, exif_fov

    options, model = read_options(args, ReconstructOptions), read_options(args, ModelOptions)
    output, geometry = read_options(args, OutputOptions), read_options(args, GeometryOptions).geometry
    sequence = ImageSequence.open(options.inputs)
    from gen3r.checkpoints import find_geometry, model_defaults  # loads all model classes: after the quick checks
    from gen3r.geometry.refinement import matched_size
    from gen3r.geometry.structure_from_motion import MIN_FRAMES
    from gen3r.models.cost import Clip
    from gen3r.models.geometry import fitting_size, patch_size, usual_pixels

    defaults = model_defaults(model.model)
    own, longest = sequence.first_size(), defaults["num_frames"]
    frames = sequence.meant(longest, options.frames)
    at_once = min(frames, longest)
    usual = patch_size(*own) if geometry else fitting_size(*own, usual_pixels(defaults, at_once))
    height, width = options.size or usual
    check_patches(height, width)
    if geometry:
        find_geometry(geometry)
    images, fov = sequence, given_options(args, Request).get("fov")
    if fov is not None:
        check_fov(fov)
    elif (fov := exif_fov(sequence, height, width)) is not None:
        say_exif_fov(fov)
    if frames <= longest:
        say(f"reading {frames} of {sequence.count} images ...")
        with enough_memory():
            read_size = (height, width) if options.feed_forward else matched_size(height, width)
            images = sequence.sample(frames, *read_size)
    pipe = load_pipeline(model, geometry, clip=Clip(at_once, height, width, generates=False))
    say(f"reconstructing {frames} frames of {height} x {width} ...")
    with enough_memory():
        scene = pipe.reconstruct(images, height, width, options.feed_forward, frames, fov)
    if frames >= MIN_FRAMES and not options.feed_forward and not scene.settings.get("refined"):
        why = "too few features, no parallax, or things that move"
        say(f"the images could not be matched ({why}); cameras and depth are VGGT's")
    scene.settings.update(names_of_models(model.model, geometry), inputs=[p.name for p in options.inputs])
    write_scene(scene, output)
