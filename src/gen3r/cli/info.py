"""`gen3r info`: what a model folder holds."""

import argparse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "info", help="components, sizes and defaults of a model", description="Shows what a model holds, component by component."
    )
    parser.add_argument("model", nargs="?", default="nano", metavar="MODEL", help="nano, a model folder, or a Hub id")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Loads the model and prints a table."""
    from torch import nn

    from gen3r.checkpoints import load_components, resolve_model

    components = load_components(args.model)
    print(f"{args.model}: {resolve_model(args.model)}")
    total_count = total_bytes = 0
    for name, component in components.items():
        if isinstance(component, nn.Module):
            tensors = list(component.parameters())
            count, size = sum(t.numel() for t in tensors), sum(t.numel() * t.element_size() for t in tensors)
            types = ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors}))
            print(f"  {name:<14} {type(component).__name__:<30} {count / 1e6:>9.2f} M  {size / 2**20:>8.1f} MiB  {types}")
            total_count, total_bytes = total_count + count, total_bytes + size
        elif name != "defaults" and component is not None:
            print(f"  {name:<14} {type(component).__name__}")
    print(f"  {'total':<14} {'':<30} {total_count / 1e6:>9.2f} M  {total_bytes / 2**20:>8.1f} MiB")
    print("defaults")
    for name, value in components["defaults"].items():
        print(f"  {name:<20} {value!r}")
