"""`gen3r evaluate`: the table of scores on held-out procedural scenes."""

import argparse
import json
from typing import TYPE_CHECKING

from gen3r.cli.common import ModelOptions, load_pipeline
from gen3r.evaluation.options import EvaluateOptions
from gen3r.options import add_options, read_options

if TYPE_CHECKING:
    from gen3r.evaluation.protocol import Mean

_DESCRIPTION = """\
Measures every stage of a model on held-out procedural scenes and prints a table: the video autoencoder, VGGT and the
adapter, and generation from one view and from two, with the true cameras and without cameras, and from text alone.
Needs gen3r[world]."""
_EXAMPLES = """\
examples:
  gen3r evaluate --model my-nano --json
  gen3r evaluate --only autoencoder geometry --scenes 256"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "evaluate", help="scores on held-out procedural scenes", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    add_options(parser, EvaluateOptions, only={"nargs": "+"})
    add_options(parser.add_argument_group("model"), ModelOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Renders the scenes, measures, prints."""
    options, model = read_options(args, EvaluateOptions), read_options(args, ModelOptions)
    from gen3r.evaluation.probe import fitted_probe
    from gen3r.evaluation.protocol import evaluate, held_out_clips

    pipe = load_pipeline(model)
    frames, height, width = (pipe.defaults[name] for name in ("num_frames", "height", "width"))
    probe = fitted_probe(height, width) if "text" in options.only else None
    clips = held_out_clips(options.scenes, frames, height, width)
    scores = evaluate(pipe, clips, options.only, options.seed, probe)
    print(_json(model.model, options, scores) if options.json else _table(model.model, options, scores))


def _json(model: str, options: EvaluateOptions, scores: "dict[str, Mean]") -> str:
    """One object: what was measured, the means by name, and their standard errors and numbers of scenes."""
    return json.dumps({
        "model": model, "scenes": options.scenes, "seed": options.seed,
        **{name: mean.value for name, mean in scores.items()},
        "standard errors": {name: mean.error for name, mean in scores.items()},
        "scenes of each": {name: mean.scenes for name, mean in scores.items()},
    })  # fmt: skip


def _table(model: str, options: EvaluateOptions, scores: "dict[str, Mean]") -> str:
    """Markdown."""
    title = f"{model}, {options.scenes} held-out scenes"
    rows = [f"| {title} | mean ± standard error |", "|---|---|"]
    for name, mean in scores.items():
        digits, unit = (2, " dB") if name.endswith("PSNR") else (3, "")
        spread = "" if mean.error is None else f" ± {mean.error:.{digits}f}"
        some = "" if mean.scenes == options.scenes else f" ({mean.scenes} scenes)"
        rows.append(f"| {name} | {mean.value:.{digits}f}{spread}{unit}{some} |")
    return "\n".join(rows)
