"""The images that a camera file names, found on the disk."""

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.errors import InputError
from gen3r.media.decoding import opened, upright_size
from gen3r.media.images import IMAGE_SUFFIXES

SHRUNK = ("images", "images_2", "images_4", "images_8")  # nerfstudio's and DL3DV's folders, largest images first


class Located(NamedTuple):
    """The images that are there, for files of their size; the files; their numbers among all; how many are left out."""

    images: PosedImages
    files: list[Path]
    numbers: list[int]
    left_out: int


def locate(images: PosedImages, paths: Sequence[Path | None], where: Path, strict: bool) -> Located:
    """The images whose files are there, each once. Missing ones are counted in a warning.

    Files are as they are stored, as COLMAP sees them, unless the cameras are for the shape that they have upright.

    paths: of the images, None for a missing one. where: the scene, for messages.

    Raises:
        InputError: none is there; one is named twice, with different cameras; `strict`, and one is missing; the files
            are not of the shape that the cameras are for.
    """
    first: dict[Path, int] = {}
    for i, path in enumerate(paths):
        if path is None:
            continue
        j = first.setdefault(path, i)
        same_pose = np.array_equal(images.T_world_camera[i], images.T_world_camera[j])
        if not (same_pose and images.lenses[i] == images.lenses[j]):
            raise InputError(f"{where} has two different cameras for {path.name}; leave one out")
    missing = [name for name, path in zip(images.names, paths, strict=True) if path is None]
    if missing:
        message = f"{where} lacks {len(missing)} of {len(paths)} images, such as {missing[0]}"
        if strict or not first:
            raise InputError(f"{message}; download them again")
        warnings.warn(f"{message}; their cameras are left out", stacklevel=3)
    numbers, files = [*first.values()], [*first]
    images = images.take(numbers)
    try:
        with opened(files[0]) as image:
            stored, upright = (image.height, image.width), upright_size(image)
        sized = images.at(upright if images.shaped_like(upright) and not images.shaped_like(stored) else stored)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return Located(sized, files, numbers, len(paths) - len(files))


def find_pictures(folders: Sequence[Path], names: Sequence[str]) -> list[Path | None]:
    """The file of each name in the folder that holds most of them, the first of equals; None for a missing one.

    Names may be those of another machine: what counts is the longest end of the path that is there, as long as no other
    name means the same file. Backslashes are slashes, and a name without an image's suffix may have any.
    """
    found = [_in_folder(folder, [name.replace("\\", "/") for name in names]) for folder in folders]
    return max(found, key=lambda paths: sum(path is not None for path in paths))


def _in_folder(folder: Path, names: Sequence[str]) -> list[Path | None]:
    whole = {name: _file(folder, name) for name in names}
    ends = {name: path or _by_end(folder, name) for name, path in whole.items()}
    meant: dict[Path | None, set[str]] = defaultdict(set)
    for name, path in ends.items():
        meant[path].add(name)
    return [whole[name] or (ends[name] if len(meant[ends[name]]) == 1 else None) for name in names]


def _by_end(folder: Path, name: str) -> Path | None:
    parts = name.split("/")
    ends = ("/".join(parts[i:]) for i in range(1, len(parts)))
    return next((path for end in ends if end and (path := _file(folder, end))), None)


def _file(folder: Path, name: str) -> Path | None:
    suffixes = ("",) if name.lower().endswith(IMAGE_SUFFIXES) else ("", *IMAGE_SUFFIXES)
    paths = (folder / f"{name}{suffix}" for suffix in suffixes)
    return next((path for path in paths if os.path.isfile(path)), None)
