"""The most memory of the whole published size, text encoder included, in a tier: measured on the CPU, and counted.

    python benchmarks/memory.py FOLDER balanced [--frames 5] [--size 560] [--dtype float32] [--steps 1] [--guidance 1]

Writes FOLDER (19 GB of random bfloat16 tensors in the published layout) unless it is there, then makes a scene from a
picture and a prompt in a process of its own. Figures are the process's resident memory, imports included: the most
while each step of the pipeline runs, beside what `gen3r info --cost` counts for it. Pages of mapped files count.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from load_published import memory, write_folder

from gen3r.checkpoints.cost import model_stages
from gen3r.models.cost import Clip, most_memory
from gen3r.models.memory import TIERS
from gen3r.pipeline import Gen3RPipeline

STEPS = (
    "prepare_views", "encode_prompt", "encode_image", "prepare_control", "denoise", "decode_frames", "decode_geometry",
)  # fmt: skip


def forget_peak() -> None:
    """Lets VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measured(name: str, method: Callable[..., Any], peaks: dict[str, int]) -> Callable[..., Any]:
    """A method of the pipeline that notes its peak, and says it at once."""

    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        forget_peak()
        began = time.perf_counter()
        result = method(*args, **kwargs)
        peaks[name] = memory("VmHWM")
        print(f"{name:<18}{peaks[name] / 1e9:7.2f} GB{time.perf_counter() - began:9.0f} s", flush=True)
        return result

    return run


def make_scene(args: argparse.Namespace) -> None:
    """Makes a scene in this process; prints the peaks."""
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    print(f"imports           {memory('VmHWM') / 1e9:7.2f} GB", flush=True)
    pipe = Gen3RPipeline.from_pretrained(args.folder, dtype, memory=args.tier)
    peaks = {"loading": memory("VmHWM")}
    for name in STEPS:
        setattr(pipe, name, measured(name, getattr(pipe, name), peaks))
    photo = torch.rand(3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    [scene] = pipe(
        photo, "a room with a red chair", num_frames=args.frames, height=args.size, width=args.size,
        num_inference_steps=args.steps, guidance_scale=args.guidance, output_size=0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    print(f"whole scene {list(scene.frames.shape)}: {max(peaks.values()) / 1e9:.2f} GB", flush=True)


def main() -> None:
    """Counts, then measures in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tier", choices=TIERS)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--size", type=int, default=560)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="count nothing")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make_scene(args)
        return
    if not (args.folder / "model_index.json").exists():
        print(f"writing {args.folder} ...", flush=True)
        write_folder(args.folder, text=True)
    clip = Clip(args.frames, args.size, args.size, steps=args.steps, guided=args.guidance != 1)
    stages = [] if args.measure else model_stages(args.folder, getattr(torch, args.dtype), clip)
    for stage in stages:
        print(f"counted {stage.name:<10}{stage.memory(args.tier) / 1e9:7.2f} GB{stage.operations / 1e12:9.2f} TFLOP")
    if stages:
        print(f"counted in all    {most_memory(stages, args.tier) / 1e9:7.2f} GB", flush=True)
    subprocess.run([sys.executable, *sys.argv, "--make"], check=True)


if __name__ == "__main__":
    main()
