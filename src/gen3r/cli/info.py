"""`gen3r info`: what a model folder holds."""

import argparse
from collections.abc import Sequence
from typing import Any

from gen3r.cli.common import ModelOptions, pick_device, pick_dtype
from gen3r.errors import InputError
from gen3r.options import add_options, parse_size, read_options

_ROW = "  {:<14} {:<30} {:>11} {:>12}  {}"
_COST = "  {:<15} {:<14} {:>11} {:>11} {:>12} {:>10} {:>10} {:>10} {:>10}"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "info",
        help="components, sizes and defaults of a model",
        description="Reads a model, checks that every tensor is there, and shows its components and defaults.",
        epilog="examples:\n  gen3r info\n  gen3r info my-model\n  gen3r info my-model --cost 49 560",
    )
    parser.add_argument("model", nargs="?", default="nano", metavar="MODEL", help="nano, a model folder, or a Hub id")
    add_options(parser, ModelOptions, "variant")
    parser.add_argument(
        "--cost", nargs=2, metavar=("FRAMES", "SIZE"), help="what a clip of one photo takes: operations, memory, time"
    )
    add_options(parser, ModelOptions, "device", "dtype")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Loads the model and prints a table."""
    options = read_options(args, ModelOptions)
    if args.cost:
        _cost(args.cost, options)
        return
    from gen3r.checkpoints import load_components, resolve_model

    components = load_components(options.model, variant=options.variant)
    modules = components.modules()
    print(f"{options.model}: {resolve_model(options.model)}")
    print(_ROW.format("component", "class", "parameters", "size", "type").rstrip())
    rows = {name: _count(module) for name, module in modules.items()}
    for name, (count, size, types) in rows.items():
        print(_row(name, type(modules[name]).__name__, count, size, types))
    print(_row("total", "", sum(r[0] for r in rows.values()), sum(r[1] for r in rows.values()), ""))
    for name in ("tokenizer", "scheduler"):
        print(_ROW.format(name, type(getattr(components, name)).__name__, "", "", "").rstrip())
    print("defaults")
    for name, value in components.defaults.items():
        print(f"  {name:<20} {value!r}")


def _count(module: Any) -> tuple[int, int, str]:
    """Parameters, bytes and types of a module."""
    tensors = list(module.parameters())
    types = sorted({str(t.dtype).removeprefix("torch.") for t in tensors})
    return sum(t.numel() for t in tensors), sum(t.numel() * t.element_size() for t in tensors), ", ".join(types)


def _row(name: str, kind: str, count: int, size: int, types: str) -> str:
    return _ROW.format(name, kind, f"{count / 1e6:,.2f} M", f"{size / 2**20:,.1f} MiB", types).rstrip()


def _cost(clip: Sequence[str], options: ModelOptions) -> None:
    """Prints what each stage of making a clip takes, with nothing loaded."""
    try:
        frames, (height, width) = int(clip[0]), parse_size(clip[1])
    except (ValueError, argparse.ArgumentTypeError):
        raise InputError(f"--cost takes frames and a size, such as --cost 49 560, not {' '.join(clip)}") from None
    from gen3r.checkpoints.cost import model_stages
    from gen3r.models.cost import Clip, most_memory
    from gen3r.models.memory import TIERS, free_memory
    from gen3r.models.precision import fast_dtype, measure_matrix_rate
    from gen3r.request import check_size

    check_size(frames, height, width)
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    stages = model_stages(options.model, dtype, Clip(frames, height, width), options.variant)
    rates = {dtype: measure_matrix_rate(device, dtype) for dtype in {fast_dtype(device), *(s.dtype for s in stages)}}
    dtype, rate = max(rates.items(), key=lambda pair: pair[1])
    print(f"{options.model}: {frames} frames of {height} x {width} from one photo")
    print(f"{device}: {free_memory(device) / 1e9:.1f} GB free; {rate / 1e12:.3f} TFLOP/s in {str(dtype)[6:]}, "
          "which bounds the seconds from below")  # fmt: skip
    print(_COST.format("stage", "component", "parameters", "weights", "operations", "seconds", *TIERS))
    loaded = {s.component: (s.parameters, s.weights) for s in stages}
    parameters, weights = (sum(x) for x in zip(*loaded.values(), strict=True))

    def row(name: str, kind: str, parameters: int, size: int, operations: int, most: list[int]) -> str:
        cells = (f"{parameters / 1e6:,.1f} M", f"{size / 1e9:,.2f} GB", f"{operations / 1e12:,.2f} T")
        return _COST.format(
            name, kind, *cells, f"{operations / rate:,.1f}", *(f"{x / 1e9:.2f} GB" for x in most)
        ).rstrip()  # fmt: skip

    for s in stages:
        most = [s.memory(tier) for tier in TIERS]
        print(row(s.name, s.component, s.parameters, s.weights, s.operations, most))
    most = [most_memory(stages, tier) for tier in TIERS]
    print(row("in all", "", parameters, weights, sum(s.operations for s in stages), most))
