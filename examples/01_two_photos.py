"""Two photos of one place become the first and the last frame; VGGT predicts where each was taken.

python examples/01_two_photos.py [FIRST LAST] [OUT]
"""

import sys

import torch
from skimage import data

from gen3r import Gen3RPipeline, save_scene
from gen3r.media.images import read_image

if len(sys.argv) > 2:
    photos = [read_image(path) for path in sys.argv[1:3]]
else:
    # A stereo pair of a workshop, which ships with scikit-image.
    photos = [torch.from_numpy(view).permute(2, 0, 1) / 255 for view in data.stereo_motorcycle()[:2]]
out = sys.argv[3] if len(sys.argv) > 3 else "outputs/01"

pipeline = Gen3RPipeline.from_pretrained("nano")

# VGGT alone: how far apart were the photos taken, in units of the mean distance of the points?
reconstruction = pipeline.reconstruct(photos)
print(f"the second photo was taken {float(reconstruction.cameras.centres[1].norm()):.3f} units from the first")

# Without cameras, nano takes the path "between": from the first pose to the second.
[scene] = pipeline(photos, "a motorcycle in a workshop", generator=torch.Generator().manual_seed(0))
print(f"the camera of the scene moves {float(scene.cameras.centres[-1].norm()):.3f} units")
save_scene(scene, out, overwrite=True)
print(f"see {out}/preview.png")
