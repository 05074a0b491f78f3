"""A scene as files that other programs open: what a saved scene holds, and exports in any format."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from gen3r.cameras.formats import write_cameras
from gen3r.errors import InputError
from gen3r.export.formats import FORMATS, check_formats
from gen3r.export.metadata import metadata
from gen3r.export.options import ExportOptions
from gen3r.export.page import write as write_page
from gen3r.export.ply import write_points
from gen3r.export.preview import contact_sheet
from gen3r.export.selection import Selection
from gen3r.export.unit import in_metres
from gen3r.export.video import write_video
from gen3r.files import check_folder, whole_file, whole_folder, write_text
from gen3r.media.drawing import colour_depth
from gen3r.scene import SCENE_FILE, Scene

PAGE = "scene.html"
EXPORTS = "export"  # folder of a saved scene's exports

WRITERS: dict[str, Callable[[Selection, Path], None]] = {
    "rgb.mp4": lambda chosen, path: write_video(chosen.scene.frames, path),
    "depth.mp4": lambda chosen, path: write_video(colour_depth(chosen.scene.depth, chosen.scene.mask), path),
    "points.ply": write_points,
    "cameras.json": lambda chosen, path: write_cameras(chosen.scene.cameras, path),
    SCENE_FILE: lambda chosen, path: chosen.scene.save(path),
    PAGE: write_page,
    "preview.png": lambda chosen, path: contact_sheet(chosen).save(path),
    "metadata.json": lambda chosen, path: write_text(
        json.dumps(metadata(chosen.scene), indent=2, ensure_ascii=False) + "\n", path
    ),
}


def save_scene(scene: Scene, folder: str | Path, overwrite: bool = False, exports: Sequence[str] = ()) -> list[Path]:
    """Writes every file of `WRITERS` into `folder`, and exports into its folder `export`; returns their paths.

    exports: names of formats (see `export_scene`). Errors as `whole_folder` and `export_scene`.
    """
    check_formats(exports)
    folder = Path(folder)
    with whole_folder(folder, overwrite) as partial:
        write_scene_files(scene, partial)
        made = export_scene(scene, exports, partial / EXPORTS) if exports else []
    return [*(folder / name for name in WRITERS), *(folder / EXPORTS / path.name for path in made)]


def write_scene_files(scene: Scene, folder: Path) -> None:
    """Writes every file of `WRITERS` into a folder that exists."""
    chosen = Selection(scene, ExportOptions())
    for name, write in WRITERS.items():
        write(chosen, folder / name)


def export_scene(
    scene: Scene,
    formats: Sequence[str],
    folder: str | Path,
    options: ExportOptions | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes a scene in formats of `FORMATS`, each whole or not at all; returns the paths in `folder`.

    With a known length, or a scene whose settings have `metres_per_unit`, the unit of all files is the metre.

    Raises:
        InputError: a format is unknown or lacks its library, a file or folder of its name exists (without `overwrite`),
            the known length cannot be measured, or the folder cannot be written to or is full.
    """
    check_formats(formats)
    options, folder = options or ExportOptions(), Path(folder)
    paths = [folder / FORMATS[name].path for name in dict.fromkeys(formats)]
    check_folder(folder, overwrite=True)
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists; choose another folder or add --overwrite")
    selection = Selection(in_metres(scene, options.scale_from), options)
    for name, path in zip(dict.fromkeys(formats), paths, strict=True):
        module, _, function = FORMATS[name].writer.partition(".")
        write = getattr(import_module(f"gen3r.export.{module}"), function)
        with whole_file(path) if path.suffix else whole_folder(path, overwrite) as partial:
            write(selection, partial)
    return paths
