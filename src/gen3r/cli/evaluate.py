"""`gen3r evaluate`: the table of scores on held-out procedural scenes."""

import argparse
import json
from typing import TYPE_CHECKING

from gen3r.cli.common import ModelOptions, load_pipeline
from gen3r.errors import InputError
from gen3r.options import add_options, read_options

if TYPE_CHECKING:
    from gen3r.evaluation.protocol import Mean

PARTS = (  # gen3r.evaluation.protocol's, which loads much
    "autoencoder", "geometry", "generation", "two-views", "no-path", "text",
)  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="scores on held-out procedural scenes",
        description="Measures every stage of a model on procedural scenes that were never trained on, and prints a "
        "table: the video autoencoder, VGGT and the adapter, generation from one view and from two, along the true "
        "cameras and without them, and from text alone. Needs gen3r[world].",
        epilog="examples:\n  gen3r evaluate --model my-nano --json\n"
        "  gen3r evaluate --only autoencoder geometry --scenes 256\n  gen3r evaluate --world large",
    )
    parser.add_argument("--scenes", type=int, default=64, help="held-out scenes (default: 64)")
    parser.add_argument(
        "--world", choices=("small", "large"), default="small",
        help="small: new rooms and plazas; large: five kinds of place, of other textures and objects than its training "
        "scenes (default: small)",
    )  # fmt: skip
    parser.add_argument(
        "--only", choices=PARTS, nargs="+", default=PARTS, metavar="PART", help=f"{', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first scene's sampling; the next is one more")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_options(parser.add_argument_group("model"), ModelOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Renders the scenes, measures, prints."""
    if args.scenes < 1:
        raise InputError(f"at least 1 scene is needed, not {args.scenes}")
    from gen3r.data.synthetic import render_clip  # noqa: F401  says at once that its extra is missing
    from gen3r.evaluation.probe import fitted_probe
    from gen3r.evaluation.protocol import evaluate, held_out_clips

    args.model = read_options(args, ModelOptions).model
    pipe = load_pipeline(read_options(args, ModelOptions))
    defaults = pipe.defaults
    size = defaults["height"], defaults["width"]
    probe = fitted_probe(args.world, *size) if "text" in args.only else None
    clips = held_out_clips(args.scenes, defaults["num_frames"], *size, args.world)
    scores = evaluate(pipe, clips, args.only, args.seed, probe)
    print(_json(args, scores) if args.json else _table(args, scores))


def _json(args: argparse.Namespace, scores: "dict[str, Mean]") -> str:
    """One object: what was measured, the means by name, and their standard errors and numbers of scenes."""
    about = {name: getattr(args, name) for name in ("model", "world", "scenes", "seed")}
    return json.dumps({
        **about,
        **{name: mean.value for name, mean in scores.items()},
        "standard errors": {name: mean.error for name, mean in scores.items()},
        "scenes of each": {name: mean.scenes for name, mean in scores.items()},
    })  # fmt: skip


def _table(args: argparse.Namespace, scores: "dict[str, Mean]") -> str:
    """Markdown."""
    rows = [
        f"| {args.model}, {args.scenes} held-out scenes, {args.world} world | mean ± standard error |",
        "|---|---|",
    ]
    for name, mean in scores.items():
        digits, unit = (2, " dB") if name.endswith("PSNR") else (3, "")
        spread = "" if mean.error is None else f" ± {mean.error:.{digits}f}"
        some = "" if mean.scenes == args.scenes else f" ({mean.scenes} scenes)"
        rows.append(f"| {name} | {mean.value:.{digits}f}{spread}{unit}{some} |")
    return "\n".join(rows)
