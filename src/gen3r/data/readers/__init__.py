"""Datasets by name; each reader's module alone knows how its dataset lies on the disk. Importing this is light."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.errors import InputError

if TYPE_CHECKING:
    from gen3r.data.readers.base import Reader

READERS = {
    "re10k": "readers.realestate10k.RealEstate10K",
    "acid": "readers.realestate10k.ACID",
    "dl3dv": "readers.dl3dv.DL3DV",
    "tartanair": "readers.tartanair.TartanAir",
    "kitti360": "readers.kitti360.KITTI360",
    "waymo": "readers.waymo.Waymo",
    "co3d": "readers.co3d.Co3D",
    "mvimgnet": "readers.colmap.MVImgNet",
    "vkitti2": "readers.vkitti2.VirtualKITTI2",
    "wildrgbd": "readers.wildrgbd.WildRGBD",
    "standard": "standard.Standard",
    "nerfstudio": "readers.transforms.Nerfstudio",
    "colmap": "readers.colmap.COLMAP",
    "videos": "readers.videos.UserVideos",
    "clips": "readers.clips.Clips",
}

LOOK_ALIKE = ("acid", "dl3dv", "mvimgnet")


def open_dataset(name: str, root: str | Path, strict: bool = False) -> "Reader":
    """The dataset `name` (a key of `READERS`) under `root`. strict: damaged files raise instead of being skipped.

    Raises:
        InputError: there is no such dataset or folder.
    """
    if name not in READERS:
        raise InputError(f"no dataset {name!r}; choose one of {', '.join(READERS)}")
    module, _, reader = READERS[name].rpartition(".")
    return getattr(import_module(f"gen3r.data.{module}"), reader)(root, strict)


def detect_dataset(root: str | Path, strict: bool = False) -> "Reader":
    """The dataset that lies under `root`, recognised by its layout.

    Where layouts are the same, the more general name is taken: a folder that COLMAP solved is not called MVImgNet, nor
    drone videos ACID. Of the two forms with a transforms.json, the standard one has the lens in every frame.

    Raises:
        InputError: there is none.
    """
    for name in READERS:
        if name not in LOOK_ALIKE and _fits(reader := open_dataset(name, root, strict)):
            return reader
    raise InputError(f"{root} holds no dataset that is known by its layout; name it with --dataset")


def open_mixture(folder: str | Path, strict: bool = False) -> "dict[str, Reader]":
    """The published mixture's datasets in sub-folders of their names, in the standard form or as downloaded.

    A sub-folder `standard` holds any other scenes. Empty where there is no such sub-folder.
    """
    from gen3r.data.mixture import PUBLISHED_WEIGHTS

    readers = {}
    for name in (*PUBLISHED_WEIGHTS, "standard"):
        place = Path(folder) / name
        if place.is_dir():
            converted = open_dataset("standard", place, strict)
            readers[name] = converted if _fits(converted) else open_dataset(name, place, strict)
    return readers


def _fits(reader: "Reader") -> bool:
    """Whether the folder has the reader's layout."""
    return next(iter(reader.find_scenes()), None) is not None and reader.recognises()
