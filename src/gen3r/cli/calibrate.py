"""`gen3r calibrate`: MagCache's ratios of a model, for `gen3r generate --fast`."""

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

from gen3r.cli.common import ModelOptions, enough_memory, load_pipeline, say
from gen3r.errors import InputError
from gen3r.jobs import Job
from gen3r.locations import local_model
from gen3r.options import add_options, given_options, option, read_options
from gen3r.request import FAST_STEPS, Request


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """What the ratios are measured on."""

    inputs: tuple[Path, ...] = option((), "photos, each for a clip of its own", metavar="IMAGE", positional=True)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure what --fast needs to know of a model",
        description="Generates a clip from each photo in the steps of gen3r generate --fast, with none left out, and\n"
        "writes MagCache's ratios into the model's model_index.json: how the change that the transformer makes grows\n"
        "from step to step. A few photos are enough. Without ratios, --fast uses FirstBlockCache.",
        epilog="examples:\n  gen3r calibrate photo.jpg other.jpg --model my-model",
    )
    add_options(parser, CalibrateOptions, inputs={"nargs": "+"})
    add_options(parser, Request, "prompt", "num_frames")
    add_options(parser, Job, "size", "seed")
    add_options(parser.add_argument_group("model"), ModelOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks, generates, writes the means of the ratios, and prints them."""
    model, inputs = read_options(args, ModelOptions), read_options(args, CalibrateOptions).inputs
    job = replace(Job(), **given_options(args, Job), request=Request(fast=True, **given_options(args, Request)))
    jobs = [replace(job, inputs=(path,)) for path in inputs]
    for one in jobs:
        one.check()
    folder = local_model(model.model)
    if folder is None or not os.access(folder / "model_index.json", os.W_OK):
        raise InputError(f"the ratios are written into the model's folder; {model.model} is none that can be written")
    from gen3r.checkpoints import model_defaults, store_defaults

    defaults = model_defaults(folder)
    if (own := defaults["num_inference_steps"]) <= FAST_STEPS:
        raise InputError(f"{model.model} samples in {own} steps; it has nothing to gain by --fast")
    requests = [one.resolve(defaults) for one in jobs]
    import torch

    pipe = load_pipeline(model)
    measured = []
    for one, request in zip(jobs, requests, strict=True):
        say(f"generating {request.num_frames} frames of {request.height} x {request.width} ...")
        with enough_memory():
            measured.append(pipe.calibrate(request, torch.Generator().manual_seed(one.seed)))
    ratios = [round(sum(values) / len(values), 5) for values in zip(*measured, strict=True)]
    store_defaults(folder, mag_ratios=ratios)
    print(f"{folder / 'model_index.json'}: mag_ratios", *ratios)
