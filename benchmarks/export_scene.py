"""Time and memory of each export of a scene of the published size: 49 frames of 560 x 560, 15 million points.

    python benchmarks/export_scene.py [FORMAT ...] [--every-point] [--frames 49 --size 560]

Each format is written by a process of its own, `gen3r export`, from loading the scene to the last byte on the disk.
Processor time is that of all threads; the peak is the resident memory. Formats whose library is missing are left out.
--every-point turns off the filters and the thinning of points.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from gen3r.cameras.camera import Cameras
from gen3r.export.formats import FORMATS
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.scene import Scene

FILTERS = ("unsure", "edges", "grazing", "sky", "voxel", "outliers")
EVERY_POINT = [*(f"--{name}=0" for name in FILTERS), "--max-points=99999999"]


def write_scene(path: Path, frames: int, size: int) -> None:
    """A wavy wall behind a nearer square, with grain, under a camera that moves to the right."""
    generator = torch.Generator().manual_seed(0)
    T = torch.eye(4).repeat(frames, 1, 1)
    T[:, 0, 3] = torch.linspace(0, 0.4, frames)
    cameras = Cameras.from_fov(T, math.radians(60), size, size)
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    depth, images = torch.empty(frames, size, size), torch.empty(frames, size, size, 3, dtype=torch.uint8)
    for i in range(frames):
        near = (x - 0.6 + i / frames / 4).abs() + (y - 0.5).abs() < 0.2
        depth[i] = 1.4 + 0.3 * torch.sin(6 * x + i / 20) + 0.2 * torch.cos(9 * y) - 0.6 * near
        shades = torch.stack([torch.sin(20 * x + i / 9), torch.cos(30 * y), x], -1)
        grain = 6 * torch.randn(size, size, 3, generator=generator)
        images[i] = (128 + 100 * shades + grain).clamp(0, 255).to(torch.uint8)
    depth = depth.half().float()
    confidence = (1 + torch.rand(depth.shape, generator=generator)).half().float()
    points = unproject(depth, cameras.T_world_camera, cameras.K_px)
    Scene(images, depth, confidence, points, valid_depth_mask(depth), cameras).save(path)


def measure(scene: Path, name: str, folder: Path, options: list[str]) -> str:
    """One row: seconds, seconds of processor time, the peak, and the size of what was written."""
    command = [sys.executable, "-m", "gen3r.cli.main", "export", str(scene), name, "--out", str(folder), *options]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    assert status == 0, name
    path = folder / FORMATS[name].path
    size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
    busy, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    return f"| `{name}` | {wall:.1f} s | {busy:.1f} s | {peak:.2f} GiB | {size / 2**20:.0f} MiB |"


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--every-point", action="store_true")
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--size", type=int, default=560)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.safetensors"
        write_scene(scene, args.frames, args.size)
        print("| format | time | processor time | peak | written |\n|---|---|---|---|---|")
        for name in args.formats:
            package = FORMATS[name].package
            if not package or find_spec(package):
                options = EVERY_POINT if args.every_point else []
                print(measure(scene, name, Path(folder) / "out", options), flush=True)


if __name__ == "__main__":
    main()
