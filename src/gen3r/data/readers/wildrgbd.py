"""WildRGB-D."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gen3r.cameras.camera import make_cameras
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import DepthFiles, PictureFiles
from gen3r.data.readers.poses import as_pose
from gen3r.data.readers.text import number_table, text_lines
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError


class WildRGBD(Reader):
    """WildRGB-D (Xia et al., 2024): objects filmed with a telephone's camera and laser.

    Tree: <category>/scenes/<scene>/{rgb/00000.png, depth/00000.png, metadata, cam_poses.txt}. Poses: frame number and
    16 numbers row by row, camera-to-world, OpenCV axes, metres. `metadata` is JSON: w, h, and K column by column.
    Depth: 16 bits, millimetres, 0 unknown; over 5 m it is not trusted, as in the authors' script. Scenes that
    <category>/types.json calls "hand" are left out: a hand moves the object, and masks/ marks the object alone.

    Licence: code MIT; the data's terms are not spelled out.
    """

    name = "wildrgbd"
    licence = "code MIT; the data's terms are not spelled out"
    layout = "<category>/scenes/<scene>/cam_poses.txt"

    def find_scenes(self) -> Iterator[str]:
        """Scenes with poses and without hands."""
        for scenes in self.root.glob("*/scenes"):
            with self.tolerant():
                hands = _with_hands(scenes.parent / "types.json")
                for path in scenes.glob("*/cam_poses.txt"):
                    if path.parent.name.removeprefix("scenes_") not in hands:
                        yield path.parent.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        rows = number_table(folder / "cam_poses.txt", 17)
        try:
            metadata = json.loads("\n".join(text_lines(folder / "metadata")))
            K = np.array(metadata["K"], float).reshape(3, 3).T
            height, width = int(metadata["h"]), int(metadata["w"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / 'metadata'} lacks or misstates w, h or K ({error!r})") from error
        names = [f"{int(row[0]):05d}.png" for row in rows]
        intrinsics = K[[0, 1, 0, 1], [0, 1, 2, 2]]
        return ClipRecord(
            self.name, scene, make_cameras(as_pose(rows[:, 1:]), intrinsics, (height, width)),
            PictureFiles([folder / "rgb" / n for n in names]),
            DepthFiles([folder / "depth" / n for n in names], 1000.0, 5.0), metric=True,
        )  # fmt: skip


def _with_hands(path: Path) -> set[str]:
    """The numbers of the scenes with hands: types.json as scene to type or as type to scenes; nothing without it."""
    if not path.exists():
        return set()
    try:
        types = dict(json.loads("\n".join(text_lines(path))))
        scenes = types["hand"] if "hand" in types else [scene for scene, kind in types.items() if kind == "hand"]
        return {str(scene).removeprefix("scenes_") for scene in scenes}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no list of scenes' types ({error}); download it again") from error
