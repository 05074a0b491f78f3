"""`gen3r generate`: no, one, two or all frames, text and a camera path in; a scene out."""

import argparse
import math
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen3r.cli.common import (
    add_model_arguments,
    add_output_arguments,
    enough_memory,
    load_pipeline,
    parse_size,
    read_pictures,
    say,
    stop_if_interrupted,
    write_scene,
)
from gen3r.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from gen3r.cameras import Cameras
    from gen3r.pipeline import Gen3RPipeline

_PATHS = """\
camera paths (--camera NAME; lengths are multiples of the scene's depth, angles are degrees):
{}
  between                               from the first of two pictures to the second, where the model sees them
  free                                  the model chooses where the cameras are

without --camera, nano takes orbit_left for one picture, between for two, and is free otherwise; the published size is
always free.

a camera file can be Gen3R's cameras.json, nerfstudio's transforms.json, a COLMAP folder or a RealEstate10K text;
its unit is taken as the mean distance of the scene's points; --camera-scale changes it.

examples:
  gen3r generate photo.jpg --out scene                                  along the model's usual path
  gen3r generate photo.jpg --camera dolly_in --prompt "a room" --out scene
  gen3r generate first.jpg last.jpg --out scene                         what lies between two photos
  gen3r generate clip.mp4 --out scene                                   a video, all frames given
  gen3r generate --prompt "a plaza under a clear sky" --out scene       text alone"""

# Name, usual extent and meaning; kept here in words so that --help needs no heavy import. A test compares them.
CAMERA_HELP = (
    ("dolly_in, dolly_out", "0.4", "move forward, backward"),
    ("truck_left, truck_right", "0.3", "move sideways, looking straight on"),
    ("pedestal_up, pedestal_down", "0.15", "rise, sink"),
    ("pan_left, pan_right", "15", "turn sideways in place"),
    ("tilt_up, tilt_down", "10", "turn up, down in place"),
    ("orbit_left, orbit_right", "20", "circle the scene, looking at it"),
    ("spiral", "0.15", "one widening turn, looking at the scene"),
    ("still", "0", "do not move"),
    ("zoom_in, zoom_out", "0.8", "the published zooms: move forward, backward"),
    ("arc_left, arc_right", "15", "the published arcs: turn in place, despite the name"),
    ("translate_up, translate_down", "15", "the published translations: turn in place, despite the name"),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    listed = "\n".join(f"  {names:<30} {extent:>5}  {doc}" for names, extent, doc in CAMERA_HELP)
    parser = subparsers.add_parser(
        "generate",
        help="a photo, two photos, a video or text becomes a scene",
        description="Generates one scene. The task follows from the inputs: none (text alone), one picture (the first\n"
        "frame), two (first and last), or a video, a folder or more pictures (all frames).",
        epilog=_PATHS.format(listed),
    )
    parser.add_argument("inputs", nargs="*", type=Path, metavar="IMAGE", help="pictures, one video, or one folder")
    group = parser.add_argument_group("what to make")
    group.add_argument("--prompt", default="", metavar="TEXT", help="what the scene shows, in words")
    group.add_argument("--negative-prompt", metavar="TEXT", help="what it should not show (default: the model's)")
    group.add_argument("--camera", metavar="NAME|FILE", help="a camera path below, or a camera file (default: below)")
    group.add_argument("--extent", type=float, metavar="X", help="how far a named path goes (default: listed below)")
    group.add_argument(
        "--easing", choices=("linear", "ease"), default="linear", help="even speed, or soft start and end"
    )
    group.add_argument("--camera-scale", type=float, default=1.0, metavar="X", help="factor on a camera file's lengths")
    group.add_argument("--frames", type=int, metavar="N", help="frames of the clip, 4k + 1 (default: the model's)")
    group.add_argument(
        "--size",
        type=parse_size,
        help="N or HEIGHTxWIDTH, multiples of 112 (default: the model's); pictures are cropped",
    )
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the model's)")
    sampling.add_argument("--guidance", type=float, metavar="X", help="text guidance, 1: off (default: the model's)")
    sampling.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same scene (default: 0)")
    add_model_arguments(parser)
    parser.add_argument(
        "--lora", type=Path, metavar="FILE", help="adapters of gen3r train diffusion --lora; needs gen3r[lora]"
    )
    add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything that can be checked first, cheapest first; then loads, generates and writes."""
    import torch

    from gen3r.checkpoints.lora import check_peft, lora_file
    from gen3r.files import check_folder
    from gen3r.media.sequence import ImageSequence
    from gen3r.request import check_between, usual_cameras
    from gen3r.scene import Scene

    check_folder(args.out, args.overwrite)
    _check_words_and_numbers(args)
    if args.lora:
        check_peft()
        lora_file(args.lora)
    pictures = ImageSequence.open(args.inputs)
    cameras = _cameras(args)
    check_between(cameras, pictures.count)
    request = _request(args)
    frames, height, width = (request[k] for k in ("num_frames", "height", "width"))
    images = read_pictures(pictures, _choose(pictures.count, frames), height, width) if pictures.count else None

    pipe = load_pipeline(args)
    if args.lora:
        pipe.load_lora(args.lora)
    given = 0 if images is None else len(images)
    camera = args.camera or usual_cameras(pipe.defaults, given, frames)
    say(f"generating {frames} frames of {height} x {width} from {_task(given, frames)}, camera {camera} ...")
    with enough_memory():
        [scene] = pipe(
            images,
            args.prompt,
            cameras,
            **request,
            negative_prompt=args.negative_prompt,
            extent=args.extent,
            easing=args.easing,
            generator=torch.Generator().manual_seed(args.seed),
            callback_on_step_end=_after_step,
        )
    assert isinstance(scene, Scene)
    scene.settings.update(model=str(args.model), seed=args.seed, inputs=[p.name for p in args.inputs])
    if args.lora:
        scene.settings["lora"] = str(args.lora)
    write_scene(scene, args)


def _check_words_and_numbers(args: argparse.Namespace) -> None:
    if not args.inputs and not args.prompt.strip():
        raise InputError('nothing to start from; give a picture, or words with --prompt "..."')
    if not 0 <= args.seed < 2**63:
        raise InputError(f"a seed is a whole number from 0 to 2^63 - 1, not {args.seed}")
    if not (math.isfinite(args.camera_scale) and args.camera_scale > 0):
        raise InputError(f"a camera scale is a positive number, not {args.camera_scale}")
    try:
        (args.prompt + (args.negative_prompt or "")).encode()
    except UnicodeEncodeError as error:
        raise InputError("the prompt is not valid text; type it in UTF-8") from error


def _cameras(args: argparse.Namespace) -> "Cameras | str | None":
    """The camera file, read, or the path's name, checked."""
    import torch

    from gen3r.cameras import read_cameras
    from gen3r.cameras.paths import BETWEEN, FREE, TRAJECTORIES, trajectory

    if args.camera is None:
        return None
    if args.camera in (FREE, BETWEEN):
        _warn_of_shape(args, f"{args.camera} has neither")
    elif args.camera in TRAJECTORIES or not Path(args.camera).exists():
        trajectory(args.camera, 1, torch.eye(3), 1, 1, 1.0, args.extent, args.easing)
    else:
        _warn_of_shape(args, "a camera file is followed as it is")
        return read_cameras(args.camera).relative_to_first().scaled(args.camera_scale)
    if args.camera_scale != 1:
        warnings.warn("--camera-scale is for camera files; --extent sets how far a named path goes", stacklevel=2)
    return args.camera


def _warn_of_shape(args: argparse.Namespace, why: str) -> None:
    """Extent and easing do nothing to cameras that are no named path."""
    if args.extent is not None or args.easing != "linear":
        warnings.warn(f"--extent and --easing are for named paths; {why}", stacklevel=3)


def _request(args: argparse.Namespace) -> dict[str, Any]:
    """Sizes and sampling: what was asked for, else the model's own; checked."""
    from gen3r.checkpoints import model_defaults
    from gen3r.request import check_request

    height, width = args.size or (None, None)
    asked = {
        "num_frames": args.frames, "height": height, "width": width, "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
    }  # fmt: skip
    defaults = model_defaults(args.model)
    request = {name: defaults[name] if value is None else value for name, value in asked.items()}
    check_request(*request.values())
    return request


def _choose(count: int, frames: int) -> list[int]:
    """Which pictures count: one is the first frame, two are first and last, more are spread over the clip."""
    from gen3r.media.images import evenly_spaced

    if count <= 2:
        return list(range(count))
    if count < frames:
        warnings.warn(f"{count} pictures for {frames} frames: some repeat; --frames N asks for fewer", stacklevel=2)
    return evenly_spaced(count, frames)


def _task(given: int, frames: int) -> str:
    return ("text alone", "one view", "two views")[given] if given < 3 else f"all {frames} views"


def _after_step(pipe: "Gen3RPipeline", step: int, t: "Tensor", tensors: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Stops where Ctrl-C was lost; after the last step, the line that says what happens next."""
    stop_if_interrupted()
    if step + 1 == len(pipe.scheduler.timesteps):
        from tqdm import tqdm

        tqdm.write("gen3r: decoding ...", file=sys.stderr)
    return {}
