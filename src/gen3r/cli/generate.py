"""`gen3r generate`: no, one, two or all frames, text and a camera path in; a scene out."""

import argparse
from pathlib import Path

from gen3r.cli.common import add_model_arguments, add_output_arguments, load_pipeline, parse_size, say, write_scene
from gen3r.errors import InputError

_PATHS = """\
camera paths (--camera NAME; lengths are multiples of the scene's depth, angles are degrees):
{}

a camera file can be Gen3R's cameras.json, nerfstudio's transforms.json, a COLMAP folder or a RealEstate10K text;
its unit is taken as the mean distance of the scene's points; --camera-scale changes it.

examples:
  gen3r generate photo.jpg --out scene                                  the model chooses the path
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
        description="Generates one scene. The task follows from the inputs: none (text), one picture (first frame), two "
        "(first and last), or a video or folder (all frames).",
        epilog=_PATHS.format(listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="*", type=Path, metavar="IMAGE", help="pictures, or one video or folder of pictures")
    group = parser.add_argument_group("what to make")
    group.add_argument("--prompt", default="", help="what the scene shows, in words")
    group.add_argument("--negative-prompt", help="what it should not show (default: the model's)")
    group.add_argument("--camera", metavar="NAME|FILE", help="a camera path below, or a camera file (default: free)")
    group.add_argument("--extent", type=float, help="how far a named path goes (default: listed below)")
    group.add_argument("--easing", choices=("linear", "ease"), default="linear", help="even speed, or a soft start and end")
    group.add_argument("--camera-scale", type=float, default=1.0, help="factor on a camera file's translations")
    group.add_argument("--frames", type=int, help="frames of the clip, 4k + 1 (default: the model's)")
    group.add_argument("--size", type=parse_size, help="N or HEIGHTxWIDTH, multiples of 112 (default: the model's)")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    sampling.add_argument("--guidance", type=float, help="text guidance, 1 turns it off (default: the model's)")
    sampling.add_argument("--seed", type=int, default=0, help="same seed, same scene (default: 0)")
    add_model_arguments(parser)
    add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything that can be checked first, then loads, generates and writes."""
    import torch

    from gen3r.cameras import TRAJECTORIES, read_cameras
    from gen3r.cameras.trajectories import find_trajectory
    from gen3r.checkpoints import model_defaults
    from gen3r.export import check_output
    from gen3r.media import VIDEO_SUFFIXES, read_frames
    from gen3r.pipeline import check_request

    check_output(args.out, args.overwrite)
    whole_clip = len(args.inputs) == 1 and (args.inputs[0].is_dir() or args.inputs[0].suffix.lower() in VIDEO_SUFFIXES)
    if len(args.inputs) > 2:
        raise InputError(f"{len(args.inputs)} pictures given; give one, two (first and last), or a folder for a whole clip")
    if not args.inputs and not args.prompt.strip():
        raise InputError('nothing to start from; give a picture, or words with --prompt "..."')
    if not 0 <= args.seed < 2**63:
        raise InputError(f"a seed is a whole number from 0 to 2^63 - 1, not {args.seed}")
    defaults = model_defaults(args.model)
    frames = defaults["num_frames"] if args.frames is None else args.frames
    height, width = args.size or (defaults["height"], defaults["width"])
    steps = defaults["num_inference_steps"] if args.steps is None else args.steps
    guidance = defaults["guidance_scale"] if args.guidance is None else args.guidance
    check_request(frames, height, width, steps, guidance)
    cameras = args.camera
    if cameras is not None and cameras not in TRAJECTORIES:
        if not Path(cameras).exists():
            find_trajectory(cameras)
        cameras = read_cameras(cameras).relative_to_first().scaled(args.camera_scale)
    images = read_frames(args.inputs, height, width, frames if whole_clip else None) if args.inputs else None

    pipe = load_pipeline(args)
    task = "a whole clip" if whole_clip else ("text alone", "one view", "two views")[len(args.inputs)]
    say(f"generating {frames} frames of {height} x {width} from {task} ...")
    scene = pipe(
        images,
        args.prompt,
        cameras,
        negative_prompt=args.negative_prompt,
        num_frames=frames,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance,
        extent=args.extent,
        easing=args.easing,
        generator=torch.Generator().manual_seed(args.seed),
    )[0]
    scene.settings.update(model=str(args.model), seed=args.seed, inputs=[p.name for p in args.inputs])
    write_scene(scene, args)
