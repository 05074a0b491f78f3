"""Processor time of a clip of the procedural world, with depth.

    python benchmarks/render_world.py [--clips 16] [--frames 17] [--size 112] [--movers] [--textures FOLDER]

Counts the time that the processor works for one process, so that it means the same on a busy machine; two such
processes on two idle cores give two clips in that time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gen3r.data.synthetic import WorldOptions, render_clip


def processor_seconds(work: Callable[[], object]) -> float:
    """What `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--movers", action="store_true")
    parser.add_argument("--textures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = WorldOptions(movers=args.movers, textures=args.textures)

    def render(seed: int, frames: int, size: int) -> None:
        render_clip(seed, frames, size, size, options=options)

    for seed in range(4):  # what is loaded when it is first used
        render(seed, 2, 28)
    spent = [processor_seconds(lambda seed=seed: render(seed, args.frames, args.size)) for seed in range(args.clips)]
    figures = {
        "clip": [args.frames, args.size, args.size], "textures": str(args.textures), "movers": args.movers,
        "clips": args.clips,
        "processor s a clip": statistics.mean(spent), "slowest": max(spent),
        "clips/s of two cores": 2 / statistics.mean(spent),
    }  # fmt: skip
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
