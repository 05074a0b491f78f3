"""Files of cameras in every format that Gen3R reads; a file's format is recognised by its content."""

import json
import os
from pathlib import Path

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats.camera_path import parse_camera_path
from gen3r.cameras.formats.colmap import find_colmap, read_colmap
from gen3r.cameras.formats.gen3r import FORMAT, cameras_to_json, parse_gen3r
from gen3r.cameras.formats.nerfstudio import parse_transforms, stored_size
from gen3r.cameras.formats.posed_images import PosedImages
from gen3r.cameras.formats.published import parse_published
from gen3r.cameras.formats.realestate10k import parse_realestate
from gen3r.errors import InputError, refuse_pointer
from gen3r.files import parse_json, read_text, write_text
from gen3r.media.crop import Size

REALESTATE_SIZE = (360, 640)
FOLDER_FILES = ("cameras.json", "transforms.json")  # of a scene of ours, and of nerfstudio


def write_cameras(cameras: Cameras, path: str | Path) -> None:
    """Writes Gen3R's JSON, whole or not at all. `read_cameras` returns the same float32 numbers, if the first camera
    is the identity."""
    write_text(json.dumps(cameras_to_json(cameras), indent=1) + "\n", path)


def read_cameras(path: str | Path, size: Size | None = None, shape: Size | None = None) -> Cameras:
    """The cameras of a file, or of a folder: COLMAP's cameras.txt/.bin and images.txt/.bin, else its cameras.json or
    transforms.json.

    They are in the frame of the first, to which they become relative in double precision, and in the natural order of
    their images' names.

    size: (height, width) of the images, for files that do not give it: a transforms.json without w and h (by default
        the size of the images that it names), and RealEstate10K's, whose intrinsics are fractions (360 x 640).
    shape: stands in for the size of a transforms.json that has neither w and h nor images, but angles of view.

    Raises:
        InputError: there is no such file, its format is unknown or damaged, a camera is impossible, or a lens is so
            unlike a pinhole that its pictures have to be undistorted first.
    """
    path = Path(path)
    images = read_posed_images(path, size, shape)
    try:
        return (images.at(size or REALESTATE_SIZE) if images.fractions else images).cameras()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_posed_images(path: Path, size: Size | None = None, shape: Size | None = None) -> PosedImages:
    """As `read_cameras`, with the images' names and lenses, and poses in the file's world; fractions stay fractions."""
    if os.path.isdir(path):  # also of a name too long for a file
        files = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if find_colmap(path) or not files:
            return read_colmap(path)
        path = files[0]
    text = read_text(path, "camera file")
    refuse_pointer(path)
    if not text.strip():
        raise InputError(f"{path} is empty; export the cameras again")
    json_like = text.lstrip().startswith(("{", "["))
    data = parse_json(text, path) if json_like else None
    try:
        if not json_like:
            return parse_realestate(text)
        if isinstance(data, dict):
            if data.get("format") == FORMAT:
                return parse_gen3r(data)
            if "extrinsics" in data and "intrinsics" in data:
                return parse_published(data)
            if "camera_path" in data:
                return parse_camera_path(data)
            if isinstance(data.get("frames"), list):
                known = size is not None or {"h", "w"} <= data.keys()
                return parse_transforms(data, size if known else stored_size(data, path.parent), shape=shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    raise InputError(
        f"{path}: this JSON holds no cameras; give Gen3R's cameras.json, or nerfstudio's transforms.json or "
        "camera_path.json"
    )
