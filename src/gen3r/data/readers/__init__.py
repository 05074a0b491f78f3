"""One module a dataset; each alone knows how that dataset lies on the disk."""

from importlib import import_module
from pathlib import Path

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
    "mvimgnet": "mvimgnet.MVImgNet",
    "vkitti2": "vkitti2.VirtualKITTI2",
    "wildrgbd": "wildrgbd.WildRGBD",
    "standard": "transforms.Standard",
    "nerfstudio": "transforms.Nerfstudio",
    "colmap": "mvimgnet.COLMAP",
}


def open_dataset(name: str, root: str | Path) -> Reader:
    """The dataset `name` (a key of `READERS`) under `root`.

    Raises:
        InputError: no such dataset, or nothing of it there.
    """
    if name not in READERS:
        raise InputError(f"no dataset {name!r}; choose one of {', '.join(READERS)}")
    module, kind = READERS[name].split(".")
    reader: Reader = getattr(import_module(f"{__name__}.{module}"), kind)(root)
    return reader
