"""Virtual KITTI 2."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gen3r.cameras.camera import make_cameras
from gen3r.data.readers.base import Reader
from gen3r.data.readers.frames import DepthFiles, PictureFiles, picture_size, read_values
from gen3r.data.readers.poses import as_pose, inverse
from gen3r.data.readers.text import number_table, text_lines
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError

FAR = 600.0  # the far plane, 655.35 m, is the sky


class VirtualKITTI2(Reader):
    """Virtual KITTI 2 (Cabon et al., 2020).

    Tree: Scene01/clone/{frames/rgb/Camera_0/rgb_00000.jpg, frames/depth/Camera_0/depth_00000.png, extrinsic.txt,
    intrinsic.txt}, and of the package with boxes frames/instanceSegmentation/Camera_0/instancegt_00000.png and
    bbox.txt. extrinsic.txt: a header, then frame, camera and 16 numbers row by row, world-to-camera, OpenCV axes,
    metres. intrinsic.txt: a header, then frame, camera, fx fy cx cy. Depth: 16 bits, centimetres. What bbox.txt says
    is moving has no depth. The weathers of a scene share one path: split by scene.

    Licence: CC BY-NC-SA 3.0.
    """

    name = "vkitti2"
    licence = "CC BY-NC-SA 3.0"
    layout = "Scene01/clone/extrinsic.txt"

    def find_scenes(self) -> Iterator[str]:
        """A scene, a weather and a camera."""
        for path in self.root.glob("Scene*/*/extrinsic.txt"):
            for camera in (path.parent / "frames" / "rgb").glob("Camera_[0-9]"):
                yield f"{path.parent.relative_to(self.root).as_posix()}/{camera.name}"

    def read_scene(self, scene: str) -> ClipRecord:
        *place, camera = self.name_parts(scene, 3)
        if not camera.removeprefix("Camera_").isdecimal():
            raise self.unknown(scene)
        folder, number = self.root.joinpath(*place), int(camera.removeprefix("Camera_"))
        poses = number_table(folder / "extrinsic.txt", 18, skip_lines=1)
        lenses = number_table(folder / "intrinsic.txt", 6, skip_lines=1)
        poses, lenses = (t[t[:, 1] == number] for t in (poses, lenses))
        if not len(poses) or not np.array_equal(poses[:, 0], lenses[:, 0]):
            raise InputError(f"{folder}: extrinsic.txt and intrinsic.txt name different frames; download them again")
        names = [f"{int(n):05d}" for n in poses[:, 0]]
        rgb = [folder / "frames" / "rgb" / camera / f"rgb_{n}.jpg" for n in names]
        depth = [folder / "frames" / "depth" / camera / f"depth_{n}.png" for n in names]
        cameras = make_cameras(inverse(as_pose(poses[:, 2:]), folder), lenses[:, 2:], picture_size(rgb[0]))
        read_depth = DepthFiles(depth, 100.0, FAR) if depth[0].parent.is_dir() else None
        segments = folder / "frames" / "instanceSegmentation" / camera
        if read_depth and (folder / "bbox.txt").exists() and segments.is_dir():
            masks = [segments / f"instancegt_{n}.png" for n in names]
            read_depth = StaticDepth(read_depth, masks, _moving(folder / "bbox.txt", number, poses[:, 0]))
        return ClipRecord(self.name, scene, cameras, PictureFiles(rgb), read_depth, metric=True)


def _moving(path: Path, camera: int, frames: np.ndarray) -> list[set[int]]:
    """The numbers of the tracks that move in each frame."""
    moving: dict[int, set[int]] = {int(n): set() for n in frames}
    for number, line in enumerate(text_lines(path)[1:], start=2):
        fields = line.split()
        if len(fields) < 11:
            raise InputError(f"{path}, line {number} has {len(fields)} entries instead of 11")
        if int(fields[1]) == camera and fields[-1] == "True" and int(fields[0]) in moving:
            moving[int(fields[0])].add(int(fields[2]))
    return [moving[int(n)] for n in frames]


@dataclass(frozen=True)
class StaticDepth:
    """Depth without what moves. masks: images whose pixels are a track's number plus 1, 0 for the rest."""

    depth: DepthFiles
    masks: Sequence[Path]
    moving: Sequence[set[int]]

    def __call__(self, number: int) -> torch.Tensor:
        depth = self.depth(number)
        if not self.moving[number]:
            return depth
        tracks = read_values(self.masks[number]).astype(int) - 1
        return torch.where(torch.from_numpy(np.isin(tracks, list(self.moving[number]))), torch.zeros(()), depth)
