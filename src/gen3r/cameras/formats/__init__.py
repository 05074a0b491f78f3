"""Files of cameras in every format that Gen3R reads; a file's format is recognised by its content."""

import json
from pathlib import Path
from typing import Any

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats.colmap import read_colmap
from gen3r.cameras.formats.gen3r import FORMAT, cameras_from_json, cameras_to_json
from gen3r.cameras.formats.nerfstudio import read_nerfstudio
from gen3r.cameras.formats.realestate10k import read_realestate
from gen3r.errors import InputError
from gen3r.files import write_text

REALESTATE_SIZE = (360, 640)


def write_cameras(cameras: Cameras, path: str | Path) -> None:
    """Writes Gen3R's JSON, whole or not at all; `read_cameras` returns the same float32 numbers."""
    write_text(json.dumps(cameras_to_json(cameras), indent=1) + "\n", path)


def read_cameras(path: str | Path, size: tuple[int, int] = REALESTATE_SIZE) -> Cameras:
    """The cameras of a file or, for COLMAP, of a folder with cameras.txt/.bin and images.txt/.bin.

    size: (height, width) of the image; only RealEstate10K files need it, whose intrinsics are fractions of it.

    Raises:
        InputError: there is no such file, its format is unknown or damaged, or a camera is impossible.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_colmap(path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no camera file at {path}") from error
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a camera file: it is no text ({error})") from error
    if not text.strip():
        raise InputError(f"{path} is empty; export the cameras again")
    try:
        return _from_json(json.loads(text)) if text.lstrip().startswith(("{", "[")) else read_realestate(text, size)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not whole JSON (line {error.lineno}); export the cameras again") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _from_json(data: Any) -> Cameras:
    if isinstance(data, dict) and data.get("format") == FORMAT:
        return cameras_from_json(data)
    if isinstance(data, dict) and isinstance(data.get("frames"), list):
        return read_nerfstudio(data)
    raise InputError("this JSON holds no cameras; give Gen3R's cameras.json or nerfstudio's transforms.json")
