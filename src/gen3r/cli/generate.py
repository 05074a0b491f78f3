"""`gen3r generate`: images, text and a camera path become a scene."""

import argparse
import math
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.cameras.names import BETWEEN, FREE, PATHS
from gen3r.cli.common import (
    GeometryOptions,
    ModelOptions,
    OutputOptions,
    enough_memory,
    load_pipeline,
    parse_size,
    say,
    stop_if_interrupted,
    write_scene,
)
from gen3r.errors import InputError
from gen3r.options import add_options, option, read_options
from gen3r.request import Request

if TYPE_CHECKING:
    from torch import Tensor

    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

_EPILOG = """\
camera paths (--camera NAME; lengths are multiples of the scene's depth, angles are degrees):
{}
  between                from the first of two images to the second, as the model predicts them
  free                   the model chooses the cameras

without --camera, nano uses orbit_left for one image, between for two, and free otherwise; the published size always
uses free.

a camera file can be Gen3R's cameras.json, nerfstudio's transforms.json, a COLMAP folder or a RealEstate10K text. Its
unit is taken as the mean distance of the scene's points; --camera-scale changes it.

examples:
  gen3r generate photo.jpg --out scene                                  along the model's usual path
  gen3r generate photo.jpg --camera dolly_in --prompt "a room" --out scene
  gen3r generate first.jpg last.jpg --out scene                         what lies between two photos
  gen3r generate clip.mp4 --out scene                                   a video, all frames given
  gen3r generate photo.jpg --geometry facebook/VGGT-1B --out scene      depth and lens of the photo by another model
  gen3r generate --prompt "a plaza under a clear sky" --out scene       text alone"""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What the command line adds to a `Request`."""

    inputs: tuple[Path, ...] = option((), "images, one video, or one folder", metavar="IMAGE", positional=True)
    camera: str | None = option(None, "a camera path below, or a camera file (default: below)", metavar="NAME|FILE")
    camera_scale: float = option(1.0, "factor on a camera file's lengths", metavar="X")
    size: tuple[int, int] = option(
        (None, None),
        "N or HEIGHTxWIDTH of the clip that the model makes, multiples of 112 (default: the model's)",
        parse=parse_size,
    )
    seed: int = option(0, "same seed, same scene (default: 0)", metavar="N")
    lora: Path | None = option(None, "adapters of gen3r train diffusion --lora; needs gen3r[lora]", metavar="FILE")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    listed = "\n".join(f"  {name:<15} {extent:>5g}  {does}" for name, (extent, _, does) in PATHS.items())
    parser = subparsers.add_parser(
        "generate",
        help="a photo, two photos, a video or text becomes a scene",
        description="Generates one scene. The task follows from the inputs: none (text alone), one image (the first\n"
        "frame), two (first and last), or a video, a folder or more images (all frames).",
        epilog=_EPILOG.format(listed),
    )
    add_options(parser, GenerateOptions, "inputs")
    scene = parser.add_argument_group("what to make")
    add_options(scene, Request, "prompt", "negative_prompt")
    add_options(scene, GenerateOptions, "camera")
    add_options(scene, Request, "extent", "easing")
    add_options(scene, GenerateOptions, "camera_scale")
    add_options(scene, Request, "num_frames")
    add_options(scene, GenerateOptions, "size")
    add_options(scene, Request, "output_size")
    sampling = parser.add_argument_group("sampling")
    add_options(sampling, Request, "num_inference_steps", "guidance_scale")
    add_options(sampling, GenerateOptions, "seed")
    model = parser.add_argument_group("model")
    add_options(model, ModelOptions)
    add_options(model, GenerateOptions, "lora")
    add_options(model, GeometryOptions)
    add_options(parser.add_argument_group("output"), OutputOptions)
    parser.set_defaults(run=OutputOptions.reserve(run))


def run(args: argparse.Namespace) -> None:
    """Checks everything that can be checked first, cheapest first; then loads, generates and writes."""
    from gen3r.checkpoints.lora import check_peft, lora_file

    options, output = read_options(args, GenerateOptions), read_options(args, OutputOptions)
    request = read_options(args, Request)
    _check(options, request)
    if options.lora:
        check_peft()
        lora_file(options.lora)
    geometry = read_options(args, GeometryOptions).geometry
    request = _complete(request, options, args, geometry)
    write_scene(_generate(request, options, read_options(args, ModelOptions), geometry), output)


def _check(options: GenerateOptions, request: Request) -> None:
    if not options.inputs and not str(request.prompt).strip():
        raise InputError('nothing to start from; give an image, or text with --prompt "..."')
    if not 0 <= options.seed < 2**63:
        raise InputError(f"a seed is a whole number from 0 to 2^63 - 1, not {options.seed}")
    if not (math.isfinite(options.camera_scale) and options.camera_scale > 0):
        raise InputError(f"a camera scale is a positive number, not {options.camera_scale}")


def _complete(request: Request, options: GenerateOptions, args: argparse.Namespace, geometry: str | None) -> Request:
    """The request with its images and cameras, read, and the model's defaults; everything is checked."""
    from gen3r.media.sequence import ImageSequence

    images, cameras = ImageSequence.open(options.inputs), options.camera
    if cameras not in (None, FREE, BETWEEN, *PATHS) and Path(cameras).exists():
        from gen3r.cameras.formats import read_cameras

        cameras = read_cameras(cameras).relative_to_first().scaled(options.camera_scale)
    elif options.camera_scale != 1:
        warnings.warn("--camera-scale is for camera files; --extent sets how far a named path goes", stacklevel=2)
    from gen3r.checkpoints import find_geometry, model_defaults  # loads all model classes: after the quick checks

    height, width = options.size
    request = replace(request, images=images if images.count else None, cameras=cameras, height=height, width=width)
    request = request.resolve(model_defaults(read_options(args, ModelOptions).model))
    if 2 < images.count < request.num_frames:
        warnings.warn(
            f"{images.count} images for {request.num_frames} frames: some repeat; --frames N asks for fewer",
            stacklevel=2,
        )
    if geometry:
        find_geometry(geometry)
    if images.count:
        say(f"reading {request.num_views} of {images.count} images ...")
    with enough_memory():
        return replace(request, images=request.read_images())


def _generate(request: Request, options: GenerateOptions, model: ModelOptions, geometry: str | None) -> "Scene":
    import torch

    from gen3r.scene import Scene

    pipe = load_pipeline(model, geometry)
    if options.lora:
        pipe.load_lora(options.lora)
    say(
        f"generating {request.num_frames} frames of {request.height} x {request.width} from {request.task}, "
        f"camera {request.cameras if isinstance(request.cameras, str) else options.camera} ..."
    )
    with enough_memory():
        generator = torch.Generator().manual_seed(options.seed)
        [scene] = pipe(request, generator=generator, callback_on_step_end=_after_step)
    assert isinstance(scene, Scene)
    scene.settings.update(model=str(model.model), seed=options.seed, inputs=[p.name for p in options.inputs])
    if options.lora:
        scene.settings["lora"] = str(options.lora)
    if geometry:
        scene.settings["geometry"] = geometry
    return scene


def _after_step(pipe: "Gen3RPipeline", step: int, t: "Tensor", tensors: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Stops where Ctrl-C was lost; after the last step, says what happens next."""
    stop_if_interrupted()
    if step + 1 == len(pipe.scheduler.timesteps):
        from tqdm import tqdm

        tqdm.write("gen3r: decoding ...", file=sys.stderr)
    return {}
