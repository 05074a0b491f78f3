"""`gen3r export`: a scene in the formats of other programs."""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path

from gen3r.cli.common import enough_memory, say
from gen3r.export.formats import FORMATS, check_formats, format_lines
from gen3r.export.options import ExportOptions
from gen3r.options import add_options, option, read_options

_EPILOG = """\
formats:
{}

depth is what is reliable: confident, not at an edge, not the sky. Points are reliable too, and thinned. The unit is a
metre with --scale-from, or where a depth model knew metres; else it is the scene's own.

examples:
  gen3r export scene glb                                       into scene/export/mesh.glb, for Blender
  gen3r export scene colmap --out training                     for gsplat, nerfstudio, 3DGS
  gen3r export scene rgbd --scale-from 0:80,40:310,42=1.2      the two pixels of frame 0 are 1.2 m apart
  gen3r export scene ply --voxel 0 --outliers 0 --max-points 100000000"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is exported, and where to."""

    scene: Path = option(help="a folder that generate or reconstruct wrote, or its scene.safetensors", positional=True)
    formats: tuple[str, ...] = option(help="one or more formats, see below", metavar="FORMAT", positional=True)
    out: Path | None = option(None, "folder for the files (default: export in the scene's folder)", metavar="DIR")
    overwrite: bool = option(False, "replace earlier files of the same formats")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="a scene in the formats of other programs: GLB, COLMAP, splats, ...",
        description="Writes a scene in the formats of other programs, each file or folder whole or not at all.",
        epilog=_EPILOG.format(format_lines()),
    )
    add_options(parser, Command, "scene", "formats", scene={"metavar": "SCENE"}, formats={"nargs": "+"})
    add_options(parser.add_argument_group("output"), Command, "out", "overwrite")
    chosen = parser.add_argument_group("what is exported")
    add_options(chosen, ExportOptions, "unsure", "edges", "grazing", "sky", "voxel", "outliers", "max_points")
    add_options(parser.add_argument_group("axes and unit"), ExportOptions, "axes", "scale_from")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks the formats and the scene, then writes one format after another."""
    command, options = read_options(args, Command), read_options(args, ExportOptions)
    check_formats(command.formats)
    if options.axes != ExportOptions.axes and not any(FORMATS[name].axes == "--axes" for name in command.formats):
        turned = ", ".join(name for name, form in FORMATS.items() if form.axes == "--axes")
        warnings.warn(f"--axes turns {turned} only; the other formats have axes of their own", stacklevel=2)
    from gen3r.export.save import EXPORTS, export_scene
    from gen3r.scene import Scene, find_scene

    file = find_scene(command.scene)
    folder = command.out or file.parent / EXPORTS
    with enough_memory():
        scene = Scene.load(file)
        say(f"writing {', '.join(command.formats)} ...")
        for path in export_scene(scene, command.formats, folder, options, command.overwrite):
            print(path)
