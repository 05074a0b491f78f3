"""A camera path of your own: four key cameras in a file, interpolated to the length of the clip.

python examples/02_own_camera_path.py [CAMERAS] [OUT]

CAMERAS can be Gen3R's cameras.json, nerfstudio's transforms.json, a COLMAP folder or a RealEstate10K text file.
"""

import math
import sys
from importlib.resources import files
from pathlib import Path

import torch

from gen3r import Cameras, Gen3RPipeline, read_cameras, save_scene, write_cameras
from gen3r.media.images import read_image

out = Path(sys.argv[2] if len(sys.argv) > 2 else "outputs/02")


def key_cameras() -> Cameras:
    """Forward and to the right, then a turn to the left. Camera-to-world, OpenCV axes (y points down)."""
    T = torch.eye(4).repeat(4, 1, 1)
    T[:, :3, 3] = torch.tensor([[0.0, 0, 0], [0.1, 0, 0.1], [0.2, -0.05, 0.2], [0.2, -0.05, 0.2]])
    turn = -math.radians(12)
    T[3, 0, 0] = T[3, 2, 2] = math.cos(turn)
    T[3, 0, 2], T[3, 2, 0] = math.sin(turn), -math.sin(turn)
    return Cameras.from_fov(T, math.radians(60), 112, 112)


if len(sys.argv) > 1:
    path_file = Path(sys.argv[1])
else:
    path_file = out.with_name("02_key_cameras.json")
    write_cameras(key_cameras(), path_file)

# Lengths in the file are in the scene's unit: the mean distance of its points from the first camera.
cameras = read_cameras(path_file)
print(f"{len(cameras)} cameras from {path_file}, field of view {cameras.fov_y[0].rad2deg():.0f} degrees")

pipeline = Gen3RPipeline.from_pretrained("nano")
photo = read_image(str(files("sklearn") / "datasets/images/china.jpg"))

# The pipeline makes the path relative to its first camera and interpolates it to the clip's frames.
[scene] = pipeline(photo, cameras=cameras, generator=torch.Generator().manual_seed(0))

print(f"the requested path ends {float(cameras.relative_to_first().centres[-1].norm()):.2f} units from its start,")
print(f"the cameras of the scene end {float(scene.cameras.centres[-1].norm()):.2f} units from it")
save_scene(scene, out, overwrite=True)
print(f"see {out}/preview.png")
