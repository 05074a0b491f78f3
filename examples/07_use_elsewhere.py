"""A photo becomes files for other programs: a mesh for Blender, a start for splat training, RGB-D for robots.

python examples/07_use_elsewhere.py [PHOTO] [OUT] [HEIGHT]
"""

import sys
from importlib.resources import files
from pathlib import Path

import torch

from gen3r import Gen3RPipeline
from gen3r.export.formats import FORMATS
from gen3r.export.options import ExportOptions, KnownLength
from gen3r.media.images import read_image

photo = sys.argv[1] if len(sys.argv) > 1 else str(files("sklearn") / "datasets/images/china.jpg")
out = Path(sys.argv[2] if len(sys.argv) > 2 else "outputs/07")
height = float(sys.argv[3]) if len(sys.argv) > 3 else 5.0  # of the camera over the ground [m], roughly

pipeline = Gen3RPipeline.from_pretrained("nano")
[scene] = pipeline(read_image(photo), cameras="truck_left", generator=torch.Generator().manual_seed(0))

# What is not reliable stays behind: the least confident pixels, edges of depth, the sky, and stray points.
cloud = scene.to_points()
print(f"{len(cloud)} of {int(scene.mask.sum())} points are exported")

# One known length makes metres of the scene's own unit. Two pixels of a known distance would do, too.
options = ExportOptions(scale_from=KnownLength(metres=height))
names = ["glb", "colmap", "gaussians", "rgbd"]
for name, path in zip(names, scene.export(out, *names, options=options, overwrite=True), strict=True):
    print(f"{path}: {FORMATS[name].what}")
