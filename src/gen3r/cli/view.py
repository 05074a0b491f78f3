"""`gen3r view`: scenes in the browser."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from gen3r.cli.common import AddressOptions, say
from gen3r.options import add_options, option, read_options

_EXAMPLES = """\
examples:
  gen3r view scene
  gen3r view scene reconstruction                side by side
  gen3r view scene --host 0.0.0.0                for other machines, too: everyone who reaches this one"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is shown."""

    scenes: tuple[Path, ...] = option(
        help="folders that generate or reconstruct wrote, or scene.safetensors files", positional=True
    )


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "view",
        help="look around in scenes, in the browser",
        description="Shows scenes in the browser: Gaussians or points, time, filters, camera paths, lengths,\n"
        "exports. The scene.html of a scene needs no command, and has less.",
        epilog=_EXAMPLES,
    )
    add_options(parser, Command, "scenes", scenes={"nargs": "+", "metavar": "SCENE"})
    add_options(parser.add_argument_group("address"), AddressOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Loads the scenes, starts the server, and waits for Ctrl-C."""
    command, address = read_options(args, Command), read_options(args, AddressOptions)
    from gen3r.scene import Scene, find_scene
    from gen3r.viewer.server import address_lines, start_server, stop_server
    from gen3r.viewer.view import show_scenes

    files = [find_scene(path) for path in command.scenes]
    scenes = {_name(file, number): Scene.load(file) for number, file in enumerate(files)}
    server = start_server(address.host, address.port, "Gen3R")
    try:
        show_scenes(server, scenes)
        for line in address_lines(server, address.host):
            say(line)
        server.sleep_forever()
    except KeyboardInterrupt:  # how a visit ends
        say("ended")
    finally:
        stop_server(server)


def _name(file: Path, number: int) -> str:
    """What a scene is called: its folder, with its place among the scenes."""
    return f"{number + 1} {file.resolve().parent.name}"
