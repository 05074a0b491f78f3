"""`gen3r app`: scenes made and looked at in the browser."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gen3r.cli.common import AddressOptions, GeometryOptions, ModelOptions, load_pipeline, say
from gen3r.options import add_options, option, read_options

FOLDER = "gen3r-scenes"
_EXAMPLES = """\
examples:
  gen3r app
  gen3r app --folder ~/scenes --port 9000
  gen3r app --model MODEL --device cuda
  gen3r app --host 0.0.0.0                       for other machines, too: everyone who reaches this one"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where the scenes are."""

    folder: Path = option(
        Path(FOLDER), f"all scenes with their settings; it is made if needed (default: {FOLDER})", metavar="DIR"
    )


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "app",
        help="make scenes in the browser, and look around in them",
        description="Makes scenes in the browser: photos, a video or words, a camera path by name or drawn, a queue,\n"
        "and all scenes made before. One scene at a time is made; the model stays loaded.",
        epilog=_EXAMPLES,
    )
    add_options(parser.add_argument_group("scenes"), Command, "folder")
    add_options(parser.add_argument_group("address"), AddressOptions)
    model = parser.add_argument_group("model")
    add_options(model, ModelOptions)
    add_options(model, GeometryOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks the model and the folder, starts the worker and the server, and waits for Ctrl-C."""
    command, model = read_options(args, Command), read_options(args, ModelOptions)
    address, geometry = read_options(args, AddressOptions), read_options(args, GeometryOptions).geometry
    from gen3r.app.runner import Runner
    from gen3r.app.server import App
    from gen3r.app.store import Store
    from gen3r.checkpoints import find_geometry, model_defaults
    from gen3r.viewer.server import address_lines, start_server, stop_server

    if geometry:
        find_geometry(geometry)
    store = Store(command.folder, model_defaults(model.model))
    try:
        server = start_server(address.host, address.port, "Gen3R")
        runner = Runner(store, partial(load_pipeline, model, geometry))
        runner.start()
        app = App(server, store, runner)
        try:
            say(f"scenes are in {store.folder}")
            for line in address_lines(server, address.host):
                say(line)
            server.sleep_forever()
        finally:
            app.close()
            runner.close()
            stop_server(server)
    finally:
        store.close()
