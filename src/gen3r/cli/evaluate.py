"""`gen3r evaluate`: tables of scores on datasets, or on held-out procedural scenes."""

import argparse
import json
from typing import TYPE_CHECKING

from gen3r.cli.common import ModelOptions, load_pipeline, say
from gen3r.cli.data_common import open_reader
from gen3r.errors import InputError
from gen3r.evaluation.options import EvaluateOptions
from gen3r.options import add_options, read_options

if TYPE_CHECKING:
    from gen3r.data.records import ClipRecord
    from gen3r.evaluation.datasets import Tables
    from gen3r.evaluation.protocol import Mean
    from gen3r.pipeline import Gen3RPipeline

_DESCRIPTION = """\
With --data, measures a model on the scenes of datasets that `gen3r data` reads, each score beside those of trivial
rivals: depth and cameras, generation from one view and from two along the true path, and the video autoencoder.

Without, measures every stage of a model on held-out procedural scenes: the video autoencoder, VGGT and the adapter, and
generation from one view and from two, with the true cameras and without cameras, and from text alone. Needs
gen3r[world]."""
_EXAMPLES = """\
examples:
  gen3r evaluate --data my-clips
  gen3r evaluate --data my-clips/office --only reconstruction --model my-nano --json
  gen3r evaluate --model my-nano --json
  gen3r evaluate --only autoencoder geometry --scenes 256"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="scores on datasets, or on held-out procedural scenes",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add_options(parser, EvaluateOptions, only={"nargs": "+"}, data={"nargs": "+"})
    add_options(parser.add_argument_group("model"), ModelOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Reads or renders the scenes, measures, prints."""
    options, model = read_options(args, EvaluateOptions), read_options(args, ModelOptions)
    parts = options.parts
    if options.data:
        records = _records(options)
        _evaluate_data(load_pipeline(model), records, options, model.model)
        return
    from gen3r.evaluation.probe import fitted_probe
    from gen3r.evaluation.protocol import evaluate, held_out_clips

    pipe = load_pipeline(model)
    frames, height, width = (pipe.defaults[name] for name in ("num_frames", "height", "width"))
    probe = fitted_probe(height, width) if "text" in parts else None
    count = options.scenes or 64
    clips = held_out_clips(count, frames, height, width)
    scores = evaluate(pipe, clips, parts, options.seed, probe)
    show = _json if options.json else _table
    print(show(model.model, options, count, scores))


def _records(options: EvaluateOptions) -> "dict[str, ClipRecord]":
    """The sequences of all datasets by name; those that cannot be measured are left out with a warning.

    Raises:
        InputError: a folder holds no dataset, or no sequence is left.
    """
    from gen3r.media.images import evenly_spaced

    readers = [open_reader(folder) for folder in options.data]
    places = [(reader, scene) for reader in readers for scene in reader.scenes]
    wanted = min(options.scenes or len(places), len(places))
    records: dict[str, ClipRecord] = {}
    for reader, scene in (places[i] for i in evenly_spaced(len(places), wanted)):
        name = scene if scene != "." and len(readers) == 1 else str(reader.root / scene)
        try:
            record = reader.read(scene)
            if len(record) < 2:
                raise InputError("it has fewer than 2 frames")
            records[name] = record
        except InputError as error:
            say(f"warning: {name} left out: {error}")
    if not records:
        raise InputError("no scene can be measured; give scenes of at least 2 frames with their cameras")
    return records


def _evaluate_data(
    pipe: "Gen3RPipeline", records: "dict[str, ClipRecord]", options: EvaluateOptions, model: str
) -> None:
    """Measures and prints."""
    from gen3r.evaluation.datasets import evaluate_records, means

    found = evaluate_records(pipe, records, options.parts, options.eval_size, options.seed)
    average = means(found)
    if options.json:
        mean = {title: {column: vars(x) for column, x in columns.items()} for title, columns in average.items()}
        about = {"model": model, "data": [*map(str, options.data)], "eval_size": options.eval_size}
        print(json.dumps({**about, "seed": options.seed, "mean": mean, "scenes": found}))
        return
    print("\n\n".join(_scene_table(title, columns, found) for title, columns in average.items()))


def _scene_table(title: str, columns: "dict[str, Mean]", found: "dict[str, Tables]") -> str:
    """Markdown: a row for each scene that the table has, and their mean at the end."""
    rows = [(scene, tables[title]) for scene, tables in found.items() if title in tables]
    rows.append((f"**mean of {len(rows)}**", {column: mean.value for column, mean in columns.items()}))
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for scene, scores in rows:
        lines.append(f"| {scene} | " + " | ".join(_number(c, scores.get(c)) for c in columns) + " |")
    return "\n".join(lines)


def _number(column: str, value: float | None) -> str:
    """With as many digits as its unit deserves; nothing where there is no value."""
    if value is None:
        return ""
    return f"{value:.2f}" if "PSNR" in column or "[deg]" in column else f"{value:.3f}"


def _json(model: str, options: EvaluateOptions, count: int, scores: "dict[str, Mean]") -> str:
    """One object: what was measured, the means by name, and their standard errors and numbers of scenes."""
    return json.dumps({
        "model": model, "scenes": count, "seed": options.seed,
        **{name: mean.value for name, mean in scores.items()},
        "standard errors": {name: mean.error for name, mean in scores.items()},
        "scenes of each": {name: mean.scenes for name, mean in scores.items()},
    })  # fmt: skip


def _table(model: str, options: EvaluateOptions, count: int, scores: "dict[str, Mean]") -> str:
    """Markdown."""
    title = f"{model}, {count} held-out scenes"
    rows = [f"| {title} | mean ± standard error |", "|---|---|"]
    for name, mean in scores.items():
        digits, unit = (2, " dB") if name.endswith("PSNR") else (3, "")
        spread = "" if mean.error is None else f" ± {mean.error:.{digits}f}"
        some = "" if mean.scenes == count else f" ({mean.scenes} scenes)"
        rows.append(f"| {name} | {mean.value:.{digits}f}{spread}{unit}{some} |")
    return "\n".join(rows)
