"""Frames per second of decoding and preprocessing, from JPEG files to clips for training, and if memory stays flat.

    python benchmarks/decode_clips.py [--clips 200] [--frames 17] [--workers 2] [--height 360 --width 640] [--size 560]
                                      [--depth]

Writes one scene of the standard form to a temporary folder and draws clips from it, through `SampledClips` and a
`DataLoader`, as training does. Memory is that of the workers together after each tenth of the clips. Many clips of one
frame (--clips 10000 --frames 1) show in a few minutes whether it grows: what is kept by the clip, not by the frame.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from gen3r.cameras.camera import Cameras
from gen3r.data.clips import ClipSampler
from gen3r.data.readers import open_dataset
from gen3r.data.records import Clip, ClipRecord
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.standard import write_scene

SCENE = 34


def write_dataset(folder: Path, height: int, width: int, with_depth: bool) -> None:
    """A scene of pictures that compress as photographs do: smooth shapes with grain."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / 50

    def frame(number: int) -> torch.Tensor:
        phase = number / 10 + np.arange(3)
        smooth = 128 + 60 * np.sin(x[..., None] + phase) + 50 * np.sin(y[..., None] * x[..., None] / 4 - phase)
        return torch.from_numpy((smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8))

    def depth(number: int) -> torch.Tensor:
        return torch.from_numpy(5 + np.sin(x + number / 10) + y / 10).float()

    poses = torch.eye(4).repeat(SCENE, 1, 1)
    poses[:, 0, 3] = torch.arange(SCENE) * 0.1
    cameras = Cameras.from_fov(poses, 1.0, height, width)
    record = ClipRecord("made", "0", cameras, frame, depth if with_depth else None, metric=True)
    write_scene(record, folder / "scene", image_format="jpg")


def resident_mib() -> float:
    """The memory of this process now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def as_tensors(clips: list[Clip]) -> tuple[torch.Tensor, int, float]:
    """Frames uint8 [B, F, 3, H, W], which a training step makes float32 where it runs; the worker and its memory."""
    frames = torch.stack([clip.frames for clip in clips]).permute(0, 1, 4, 2, 3).contiguous()
    worker = get_worker_info()
    return frames, 0 if worker is None else worker.id, resident_mib()


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--size", type=int, default=560)
    parser.add_argument("--depth", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), args.height, args.width, args.depth)
        sampler = ClipSampler(frames=args.frames, height=args.size, width=args.size)
        clips = SampledClips({"made": open_dataset("standard", folder)}, sampler, count=args.clips + 1)
        loader = DataLoader(clips, num_workers=args.workers, collate_fn=as_tensors)
        first, memory, tenths, shape = 0.0, {}, [], []
        for number, (frames, worker, resident) in enumerate(loader):
            memory[worker], shape = resident, list(frames.shape[1:])
            if number == 0:  # the workers have started
                first = time.perf_counter()
            elif number % max(1, args.clips // 10) == 0:
                tenths.append(round(sum(memory.values()), 1))
        seconds = time.perf_counter() - first
    figures = {
        "from": f"{args.width} x {args.height} JPEG", "to": shape, "workers": args.workers,
        "frames/s": args.clips * args.frames / seconds, "memory MiB": tenths,
    }  # fmt: skip
    print(json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
