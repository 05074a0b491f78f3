"""Two photos of one place: the first and the last frame, and the way between them, as VGGT sees where they were taken.

python examples/01_two_photos.py [FIRST LAST] [OUT]
"""

import sys

import torch
from skimage import data

from gen3r import Gen3RPipeline, save_scene
from gen3r.media.images import read_image

if len(sys.argv) > 2:
    pictures = [read_image(path) for path in sys.argv[1:3]]
else:
    # A stereo pair of a workshop, which ships with scikit-image.
    pictures = [torch.from_numpy(view).permute(2, 0, 1) / 255 for view in data.stereo_motorcycle()[:2]]
out = sys.argv[3] if len(sys.argv) > 3 else "outputs/01"

pipeline = Gen3RPipeline.from_pretrained("nano")

# What VGGT makes of the two alone: how far apart, in units of the mean distance of what they see?
seen = pipeline.reconstruct(pictures)
print(f"the second photo was taken {float(seen.cameras.centres[1].norm()):.3f} units from the first")

[scene] = pipeline(pictures, "a motorcycle in a workshop", generator=torch.Generator().manual_seed(0))
print(f"the camera of the scene moves {float(scene.cameras.centres[-1].norm()):.3f} units")
save_scene(scene, out, overwrite=True)
print(f"see {out}/preview.png")
