"""`gen3r info`: what a model folder holds."""

import argparse
from typing import Any

from gen3r.cli.common import ModelOptions
from gen3r.options import add_options, read_options

_ROW = "  {:<14} {:<30} {:>11} {:>12}  {}"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "info",
        help="components, sizes and defaults of a model",
        description="Reads a model, checks that every tensor is there, and shows its components and defaults.",
        epilog="examples:\n  gen3r info\n  gen3r info my-model",
    )
    parser.add_argument("model", nargs="?", default="nano", metavar="MODEL", help="nano, a model folder, or a Hub id")
    add_options(parser, ModelOptions, "variant")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Loads the model and prints a table."""
    options = read_options(args, ModelOptions)
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
