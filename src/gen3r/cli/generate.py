"""`gen3r generate`: images, text and a camera path become a scene."""

import argparse
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.cameras.names import PATHS
from gen3r.cli.common import (
    GeometryOptions,
    LoraOptions,
    ModelOptions,
    OutputOptions,
    duration,
    enough_memory,
    load_pipeline,
    names_of_models,
    say,
    say_exif_fov,
    stop_if_interrupted,
    write_scene,
)
from gen3r.cli.devices import check_devices, on_devices, split_tokens
from gen3r.jobs import Job
from gen3r.options import add_options, given_options, option, read_options
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
  gen3r generate --prompt "a plaza under a clear sky" --out scene       text alone
  gen3r generate --request job.json --out scene                         options from a file"""


LONG = 2e12  # multiplications of the denoising, from which it is worth finding out how long they take


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What the command line adds to a `Job`."""

    devices: int = option(
        1, "devices that share the work of one scene, a process each (default: 1)", metavar="N", positive=True
    )
    request: Path | None = option(
        None, "a JSON file with any of the options above, by name; those on the command line count more", metavar="FILE"
    )


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
    add_options(parser, Job, "inputs")
    scene = parser.add_argument_group("what to make")
    add_options(scene, Request, "prompt", "negative_prompt")
    add_options(scene, Job, "camera")
    add_options(scene, Request, "extent", "easing", "fov")
    add_options(scene, Job, "camera_scale")
    add_options(scene, Request, "num_frames")
    add_options(scene, Job, "size")
    add_options(scene, Request, "output_size")
    sampling = parser.add_argument_group("sampling")
    add_options(sampling, Request, "num_inference_steps", "guidance_scale", "fast")
    add_options(sampling, Job, "seed")
    add_options(sampling, GenerateOptions, "request")
    model = parser.add_argument_group("model")
    add_options(model, ModelOptions)
    add_options(model, GenerateOptions, "devices")
    add_options(model, LoraOptions)
    add_options(model, GeometryOptions)
    add_options(parser.add_argument_group("output"), OutputOptions)
    parser.set_defaults(run=OutputOptions.reserve(run))


def run(args: argparse.Namespace) -> None:
    """Checks everything that can be checked first, cheapest first; then loads, generates and writes."""
    options, output = read_options(args, GenerateOptions), read_options(args, OutputOptions)
    job = Job.load(options.request) if options.request else Job()
    job = replace(job, **given_options(args, Job), request=replace(job.request, **given_options(args, Request)))
    job.check()
    adapters = read_options(args, LoraOptions)
    adapters.check()
    model, geometry = read_options(args, ModelOptions), read_options(args, GeometryOptions).geometry
    from gen3r.checkpoints import find_geometry, model_defaults  # loads all model classes: after the quick checks

    request = job.resolve(model_defaults(model.model, adapters.lora))
    if options.devices > 1:
        check_devices(options.devices, model, request)
    if geometry:
        find_geometry(geometry)
    if request.fov is not None and job.request.fov is None:
        say_exif_fov(request.fov)
    if request.images is not None:
        count = request.images.count
        say(f"reading {min(request.num_views, count)} of {count} images ...")
    with enough_memory():
        request = replace(request, images=request.read_images())
    generate = partial(_generate, job, request, geometry, adapters.lora)
    scene = generate(model) if options.devices == 1 else on_devices(options.devices, model, generate)
    write_scene(scene, output)


def _generate(job: Job, request: Request, geometry: str | None, lora: Path | None, model: ModelOptions) -> "Scene":
    from gen3r.models.cost import Clip

    guided = request.guidance_scale != 1
    views, steps = request.num_views, request.num_inference_steps
    clip = Clip(request.num_frames, request.height, request.width, views, steps=steps, guided=guided)
    pipe = load_pipeline(model, geometry, lora, clip)
    split = split_tokens(pipe)
    say(
        f"generating {request.num_frames} frames of {request.height} x {request.width} from {request.task}, "
        f"camera {request.cameras if isinstance(request.cameras, str) else job.camera} ..."
    )
    with enough_memory():
        if not split and pipe.denoising_work(request) >= LONG and (seconds := pipe.denoising_seconds(request)) >= 60:
            say(f"denoising takes about {duration(seconds)} here; Ctrl-C stops it")
        scene = job.generate(pipe, request, _after_step)
    scene.settings.update(names_of_models(model.model, geometry, lora))
    return scene


def _after_step(pipe: "Gen3RPipeline", step: int, t: "Tensor", tensors: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Stops where Ctrl-C was lost; after the last step, says what happens next."""
    stop_if_interrupted()
    if step + 1 == len(pipe.scheduler.timesteps):
        from tqdm import tqdm

        tqdm.write("gen3r: decoding ...", file=sys.stderr)
    return {}
