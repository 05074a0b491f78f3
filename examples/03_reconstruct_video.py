"""Depth, points and cameras of a video, by VGGT alone: nothing is generated.

python examples/03_reconstruct_video.py [VIDEO] [OUT]
"""

import sys
from pathlib import Path

import torch

from gen3r import Gen3RPipeline, save_scene
from gen3r.export.video import write_video
from gen3r.media.video import read_video

out = Path(sys.argv[2] if len(sys.argv) > 2 else "outputs/03")
pipeline = Gen3RPipeline.from_pretrained("nano")
truth = None

if len(sys.argv) > 1:
    video = Path(sys.argv[1])
else:
    # A scene of the procedural world, where depth and cameras are known exactly (pip install "gen3r[world]").
    from gen3r.data.synthetic import render_clip

    truth = render_clip(seed=7, split="test")
    video = out.with_name("03_world.mp4")
    write_video(truth.frames, video)
    print(f"{video}: {truth.caption}")

scene = pipeline.reconstruct(read_video(video, frames=17), height=112, width=112)
save_scene(scene, out, overwrite=True)
print(f"{int(scene.mask.sum())} points of {len(scene.frames)} frames; see {out}/preview.png")

if truth is not None:
    # A reconstruction has no metric scale. The ratio of the median depths gives it here.
    known = scene.mask & (truth.depth > 0)
    scale = (truth.depth[known] / scene.depth[known]).median()
    error = ((scale * scene.depth - truth.depth).abs() / truth.depth)[known].mean()
    # Both paths start at the identity, so positions can be compared once the scale is known.
    path = truth.cameras.relative_to_first().centres
    drift = (scale * scene.cameras.centres - path).norm(dim=-1).mean() / torch.diff(path, dim=0).norm(dim=-1).sum()
    print(f"depth is off by {100 * error:.1f} %, positions by {100 * drift:.1f} % of the path's length")
