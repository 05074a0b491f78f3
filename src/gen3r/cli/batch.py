"""`gen3r batch`: many jobs into one folder, on this machine or a cluster."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gen3r.batch.filters import SCORES, parse_keep
from gen3r.cli.common import (
    GeometryOptions,
    LoraOptions,
    ModelOptions,
    load_pipeline,
    names_of_models,
    say,
    stop_if_interrupted,
    whole_files_stay,
)
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.locations import in_package, local_model
from gen3r.options import add_options, given_options, option, read_options
from gen3r.request import Request

if TYPE_CHECKING:
    from gen3r.batch.outputs import Record
    from gen3r.batch.run import Batch
    from gen3r.batch.table import Line
    from gen3r.batch.tasks import Task
    from gen3r.batch.worker import Settings

_SHOWN = 1000  # lines that cannot be made, of which each gets a line of text; the manifest has all
_EPILOG = """\
JOBS is a folder of pictures; or a .jsonl file, an object a line, such as {{"inputs": ["a.jpg"], "camera": "dolly_in"}};
or a .csv file, whose header has the same names: {}.

scores for --keep:
{}

The same command again makes only what is missing. A job is known by its request, the contents of its files and the
model. OUT/manifest.parquet has a row a job.

examples:
  gen3r batch photos scenes --camera orbit_left,dolly_in --seeds 4 --dry-run
  gen3r batch jobs.jsonl scenes --keep "floaters<0.05,follow>0.6"
  gen3r batch jobs.csv data --format webdataset --ray 10.0.0.1:6379"""


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What the command line adds to a table of jobs."""

    jobs: Path = option(help="a .jsonl or .csv file, or a folder of pictures", positional=True)
    out: Path = option(help="folder for the scenes and the manifest", positional=True)
    cameras: str = option(
        "", "camera paths, by commas; each job without one becomes a job for each", flag="--camera", metavar="NAME,..."
    )
    seeds: int = option(1, "each job without a seed becomes N jobs (default: 1)", metavar="N", positive=True)
    strict: bool = option(False, "one bad line stops everything")
    dry_run: bool = option(False, "check every line, and say how many scenes, how long and how much disk")
    formats: tuple[str, ...] = option(
        ("scene",),
        "scene (all files of gen3r generate), webdataset (tar shards), or formats of gen3r export (default: scene)",
        flag="--format",
        metavar="FORMAT",
    )
    shard: int = option(100, "scenes in a tar of webdataset (default: 100)", metavar="N", positive=True)
    keep: str = option("", 'reject the other scenes; such as "sharp>0.01,floaters<0.05"', metavar="LIMITS")
    verify: bool = option(False, "read every file of earlier scenes, and make damaged ones again")
    workers: int | None = option(
        None,
        "processes with a model each (default: one a GPU, else one a CPU); 0: this process alone, without Ray",
        metavar="N",
    )
    batch: int = option(1, "jobs of one size that a worker makes at once (default: 1)", metavar="N", positive=True)
    attempts: int = option(2, "times that a job is tried (default: 2)", metavar="N", positive=True)
    ray: str | None = option(None, "a cluster of Ray (default: RAY_ADDRESS, else this machine)", metavar="ADDRESS")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    from gen3r.options import options_of

    names = [f.name for kind in (Job, Request) for f in options_of(kind)]
    scores = "\n".join(f"  {name:<10}{what}" for name, what in SCORES.items())
    parser = subparsers.add_parser(
        "batch",
        help="many jobs into one folder, on this machine or a cluster",
        description="Makes the scenes of many jobs. Each is whole or absent; failures are rows of a manifest.",
        epilog=_EPILOG.format(", ".join(names), scores),
    )
    add_options(parser, BatchOptions, "jobs", "out", jobs={"metavar": "JOBS"}, out={"metavar": "OUT"})
    table = parser.add_argument_group("the table")
    add_options(table, BatchOptions, "cameras", "seeds", "strict", "dry_run")
    common = parser.add_argument_group("options of all jobs; what a line says itself counts more")
    add_options(common, Request, "prompt", "negative_prompt", "extent", "easing", "fov")
    add_options(common, Job, "camera_scale")
    add_options(common, Request, "num_frames")
    add_options(common, Job, "size")
    add_options(common, Request, "output_size", "num_inference_steps", "guidance_scale")
    add_options(common, Job, "seed")
    add_options(parser.add_argument_group("output"), BatchOptions, "formats", "shard", "keep", "verify")
    add_options(parser.add_argument_group("workers"), BatchOptions, "workers", "batch", "attempts", "ray")
    models = parser.add_argument_group("model")
    add_options(models, ModelOptions)
    add_options(models, LoraOptions)
    add_options(models, GeometryOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Checks every line, then makes what is missing. Returns 1 if a job has no scene in the end."""
    options, model = read_options(args, BatchOptions), read_options(args, ModelOptions)
    geometry, adapters = read_options(args, GeometryOptions).geometry, read_options(args, LoraOptions)
    rules = parse_keep(options.keep) if options.keep else ()
    from gen3r.batch.engines import check_installed
    from gen3r.batch.outputs import check_outputs, find_records
    from gen3r.batch.run import Batch, open_batch
    from gen3r.batch.table import read_table
    from gen3r.batch.tasks import check_lines
    from gen3r.batch.worker import Settings
    from gen3r.files import check_folder

    if options.workers is not None and options.workers < 0:
        raise InputError(f"--workers is 0 or more, not {options.workers}")
    check_outputs(options.formats)
    check_folder(options.out, overwrite=True)
    check_installed(0 if options.dry_run else options.workers)
    adapters.check()
    common = Job(**given_options(args, Job), request=Request(**given_options(args, Request)))
    cameras = [_absolute(name.strip()) for name in options.cameras.split(",") if name.strip()]
    lines = read_table(options.jobs, common, cameras, options.seeds)
    from gen3r.checkpoints import model_defaults

    identity = _identity(model, geometry, adapters.lora)
    say(f"checking {len(lines)} jobs ...")
    tasks, bad = check_lines(lines, model_defaults(model.model, adapters.lora), identity, batched=options.batch > 1)
    if len(bad) == len(lines) > 1 and len({line.error for line in bad}) == 1:
        raise InputError(bad[0].error)
    _say_bad(bad, options)
    placed = replace(model, model=_placed(model.model)), geometry and _placed(geometry)
    settings = Settings(
        load=partial(load_pipeline, *placed, lora=adapters.lora and adapters.lora.expanduser().resolve()),
        out=options.out.resolve(), model=identity, names=names_of_models(model.model, geometry, adapters.lora),
        formats=options.formats, rules=rules,
    )  # fmt: skip
    if options.dry_run:
        _plan(Batch(settings, find_records(settings.out)), tasks)
        return int(any(line.status == "invalid" for line in bad))
    with whole_files_stay(options.out), open_batch(settings, tasks, bad, options.verify) as batch:
        _make(batch, tasks, options)
        counts = Counter(record.status for record in [*batch.records.values(), *batch.invalid])
        say(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; see {options.out / 'manifest.parquet'}")
        return int(bool(counts["failed"] or counts["invalid"]))


def _identity(model: ModelOptions, geometry: str | None, lora: Path | None) -> str:
    """The hash of the model's files, with what else decides what it makes."""
    from gen3r.checkpoints import find_geometry, resolve_model
    from gen3r.checkpoints.identity import files_hash
    from gen3r.checkpoints.lora import lora_file

    return "-".join([
        files_hash(resolve_model(model.model)),
        *filter(None, (model.variant, model.dtype)),
        *([f"geometry:{files_hash(find_geometry(geometry))}"] if geometry else []),
        *([f"lora:{files_hash(lora_file(lora))}"] if lora else []),
    ])  # fmt: skip


def _placed(model: str) -> str:
    """The name of a model for workers, which may start in another folder."""
    folder = local_model(model)
    return model if folder is None or in_package(folder) else str(folder.resolve())


def _absolute(camera: str) -> str:
    return str(Path(camera).resolve()) if Path(camera).exists() else camera


def _say_bad(bad: "Sequence[Line]", options: BatchOptions) -> None:
    for line in bad[:_SHOWN]:
        say(f"line {line.number}: {' '.join(line.error.split())}")
    if len(bad) > _SHOWN:
        say(f"... and {len(bad) - _SHOWN} more lines")
    invalid = sum(line.status == "invalid" for line in bad)
    if invalid and options.strict:
        raise InputError(f"{invalid} lines of {options.jobs} cannot be made; mend them, or leave out --strict")


def _make(batch: "Batch", tasks: "Sequence[Task]", options: BatchOptions) -> None:
    from gen3r.batch.engines import make_here, make_on_ray, ray_cluster

    shard = options.shard if options.formats == ("webdataset",) else 0
    arguments = (options.batch, options.attempts, shard)
    missing = len(batch.missing(tasks))
    say(f"{len(tasks) - missing} of {len(tasks)} scenes are there; making {missing} ...")
    if options.workers == 0 or not missing:
        batch.run(tasks, lambda groups: map(_unless_interrupted, make_here(groups, batch.settings)), *arguments)
        return
    with ray_cluster(options.ray, options.workers):
        batch.run(tasks, lambda groups: make_on_ray(groups, batch.settings, options.workers), *arguments)


def _unless_interrupted(record: "Record") -> "Record":
    stop_if_interrupted()
    return record


def _plan(batch: "Batch", tasks: "Sequence[Task]") -> None:
    """Says what a run would make, by the time and the size of earlier scenes, or of one that is made for it."""
    missing = batch.missing(tasks)
    say(f"{len(tasks) - len(missing)} of {len(tasks)} scenes are there; {len(missing)} would be made")
    if not missing:
        return
    measured = [r for r in batch.records.values() if r.seconds] or _sample(batch.settings, missing[0])
    seconds, size = (sum(x) / len(measured) for x in ([r.seconds or 0 for r in measured], [r.bytes for r in measured]))
    hours, gigabytes = len(missing) * seconds / 3600, len(missing) * size / 1e9
    say(f"{seconds:.1f} s and {size / 1e6:.1f} MB a scene: {hours:.2f} hours of one worker, {gigabytes:.2f} GB")


def _sample(settings: "Settings", task: "Task") -> "list[Record]":
    from gen3r.batch.engines import make_here

    say("making one scene, to measure ...")
    with TemporaryDirectory() as folder:
        [record] = make_here([[task]], replace(settings, out=Path(folder)))
    if record.status == "failed":
        raise InputError(f"line {task.line}: {record.error}")
    return [record]
