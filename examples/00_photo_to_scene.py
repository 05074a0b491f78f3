"""A photo becomes a scene: the shortest way through the library, with the model in the package.

python examples/00_photo_to_scene.py [PHOTO] [OUT]
"""

import sys
from importlib.resources import files

import torch

from gen3r import Gen3RPipeline, save_scene
from gen3r.media.images import read_image

photo_path = sys.argv[1] if len(sys.argv) > 1 else str(files("sklearn") / "datasets/images/china.jpg")
out = sys.argv[2] if len(sys.argv) > 2 else "outputs/00"

pipeline = Gen3RPipeline.from_pretrained("nano")

# float32 [3, H, W] in [0, 1], of any size. The pipeline resizes and crops it. One image is the first frame.
photo = read_image(photo_path)

# The camera circles the scene, as far as its depth allows. nano takes this path by itself too, with cameras=None.
[scene] = pipeline(photo, cameras="orbit_left", generator=torch.Generator().manual_seed(0))

fov = scene.cameras.fov_y[0].rad2deg()
print(f"{len(scene.frames)} frames, {int(scene.mask.sum())} points, field of view {fov:.0f} degrees")
for path in save_scene(scene, out, overwrite=True):
    print(path)
