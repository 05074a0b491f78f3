"""`gen3r evaluate`: the table of scores on held-out procedural scenes."""

import argparse

from gen3r.cli.common import add_model_arguments, load_pipeline
from gen3r.errors import InputError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="scores on held-out procedural scenes",
        description="Measures every stage of a model on procedural scenes that were never trained on, and prints a "
        "table: the video autoencoder, VGGT, the adapter, and generation from one view along the true cameras. "
        "Needs gen3r[world].",
    )
    parser.add_argument("--scenes", type=int, default=64, help="held-out scenes (default: 64)")
    parser.add_argument("--no-generation", action="store_true", help="leave out the slow part")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Renders the scenes, measures, prints."""
    if args.scenes < 1:
        raise InputError(f"at least 1 scene is needed, not {args.scenes}")
    import json

    from gen3r.evaluation.protocol import evaluate, held_out_clips

    pipe = load_pipeline(args)
    defaults = pipe.config["defaults"]
    clips = held_out_clips(args.scenes, defaults["num_frames"], defaults["height"], defaults["width"])
    scores = evaluate(pipe, clips, generate=not args.no_generation)
    if args.json:
        print(json.dumps({"model": args.model, "scenes": args.scenes, **scores}))
        return
    print(f"{args.model}, {args.scenes} held-out scenes")
    for name, value in scores.items():
        print(f"  {name:<26} {value:>8.3f}")
