"""One module a dataset; each alone knows how that dataset lies on the disk."""

from importlib import import_module
from pathlib import Path

from gen3r.data.mixture import PUBLISHED_WEIGHTS
from gen3r.data.readers.base import Reader
from gen3r.errors import InputError

READERS = {
    "re10k": "realestate10k.RealEstate10K",
    "acid": "realestate10k.ACID",
    "dl3dv": "dl3dv.DL3DV",
    "tartanair": "tartanair.TartanAir",
    "kitti360": "kitti360.KITTI360",
    "waymo": "waymo.Waymo",
    "co3d": "co3d.Co3D",
    "mvimgnet": "colmap.MVImgNet",
    "vkitti2": "vkitti2.VirtualKITTI2",
    "wildrgbd": "wildrgbd.WildRGBD",
    "standard": "transforms.Standard",
    "nerfstudio": "transforms.Nerfstudio",
    "colmap": "colmap.COLMAP",
    "filmed": "filmed.Filmed",
}

LOOK_ALIKE = ("acid", "dl3dv", "mvimgnet")


def open_dataset(name: str, root: str | Path, strict: bool = False) -> Reader:
    """The dataset `name` (a key of `READERS`) under `root`. strict: damaged files stop instead of being skipped.

    Raises:
        InputError: no such dataset, or no such folder.
    """
    if name not in READERS:
        raise InputError(f"no dataset {name!r}; choose one of {', '.join(READERS)}")
    module, kind = READERS[name].split(".")
    reader: Reader = getattr(import_module(f"{__name__}.{module}"), kind)(root, strict)
    return reader


def detect_dataset(root: str | Path, strict: bool = False) -> Reader:
    """The dataset that lies under `root`, by its layout.

    Layouts that look alike go to the plainest name: a folder that COLMAP solved is not called MVImgNet, nor drone
    videos ACID. Of the two that have a transforms.json, the standard form gives the lens in every frame.

    Raises:
        InputError: none is there.
    """
    for name in READERS:
        if name in LOOK_ALIKE:
            continue
        reader = open_dataset(name, root, strict)
        if _fits(reader):
            return reader
    raise InputError(f"{root} holds no dataset that is known by its layout; name it with --dataset")


def open_mixture(folder: str | Path, strict: bool = False) -> dict[str, Reader]:
    """The published mixture's datasets in sub-folders of their names, in the standard form or as downloaded.

    A sub-folder `standard` holds any other scenes. Nothing where there is no such sub-folder.
    """
    readers = {}
    for name in (*PUBLISHED_WEIGHTS, "standard"):
        place = Path(folder) / name
        if place.is_dir():
            converted = open_dataset("standard", place, strict)
            readers[name] = converted if _fits(converted) else open_dataset(name, place, strict)
    return readers


def _fits(reader: Reader) -> bool:
    """Whether what lies there has the reader's layout."""
    return next(iter(reader.find_scenes()), None) is not None and reader.recognises()
