"""TartanAir, first version."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gen3r.cameras.camera import make_cameras
from gen3r.cameras.conventions import matrix_from_quaternion, ned_to_opencv
from gen3r.data.readers.base import Reader, files_in
from gen3r.data.readers.frames import PictureFiles, keep_known, picture_size
from gen3r.data.readers.text import number_table
from gen3r.data.records import ClipRecord
from gen3r.errors import InputError

FOCAL, WIDTH = 320.0, 640  # the same in all environments; in no file
SKY = 1000.0


class TartanAir(Reader):
    """TartanAir (Wang et al., 2020), left camera.

    Tree: <environment>/{Easy,Hard}/P000/{image_left/000000_left.png, depth_left/000000_left_depth.npy, pose_left.txt}.
    Poses: a line a frame, tx ty tz qx qy qz qw, camera-to-world, body and world axes north-east-down. Intrinsics fixed:
    fx = fy = 320, centre at half of 640 x 480. Depth: metres along z; the sky lies at about 10000 and is dropped.

    Licence: CC BY 4.0.
    """

    name = "tartanair"
    licence = "CC BY 4.0"
    layout = "<environment>/{Easy,Hard}/P000/pose_left.txt"

    def find_scenes(self) -> Iterator[str]:
        """Trajectories."""
        for path in self.root.glob("*/*/*/pose_left.txt"):
            yield path.parent.relative_to(self.root).as_posix()

    def read_scene(self, scene: str) -> ClipRecord:
        folder = self.root / scene
        rows = number_table(folder / "pose_left.txt", 7)
        paths = files_in(folder / "image_left", "*_left.png")
        if len(paths) != len(rows):
            raise InputError(f"{folder} has {len(paths)} images and {len(rows)} poses; download it again")
        T = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
        T[:, :3, :3] = matrix_from_quaternion(torch.from_numpy(rows[:, 3:]))
        T[:, :3, 3] = torch.from_numpy(rows[:, :3])
        height, width = picture_size(paths[0])
        focal = FOCAL * width / WIDTH
        cameras = make_cameras(
            ned_to_opencv(T).numpy(), np.array([focal, focal, width / 2, height / 2]), (height, width)
        )
        depth = DepthArrays([folder / "depth_left" / f"{p.stem}_depth.npy" for p in paths])
        has_depth = (folder / "depth_left").is_dir()
        return ClipRecord(self.name, scene, cameras, PictureFiles(paths), depth if has_depth else None, metric=True)


@dataclass(frozen=True)
class DepthArrays:
    """Depth in .npy files: number -> float32 [H, W] in metres."""

    paths: list[Path]

    def __call__(self, number: int) -> torch.Tensor:
        try:
            depth = np.load(self.paths[number], allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self.paths[number]} cannot be read ({error}); download it again") from error
        return keep_known(depth.astype(np.float32), SKY)
