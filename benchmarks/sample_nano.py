"""Time and memory of nano: a scene from one picture along a path, stage by stage, and what guidance costs.

    python benchmarks/sample_nano.py [--repeats 3] [--device cpu]

Every figure is the median of the repeats, after one run that does not count.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gen3r import Gen3RPipeline


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median duration of `work`."""
    work()
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def peak_gib() -> float:
    """The most memory that this process has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    began = time.perf_counter()
    pipe = Gen3RPipeline.from_pretrained("nano").to(args.device)
    loading = time.perf_counter() - began
    pipe.set_progress_bar_config(disable=True)
    photo = torch.rand(3, 112, 112, generator=torch.Generator().manual_seed(0))

    def sample(guidance: float | None = None) -> torch.Tensor:
        made = pipe(photo, "a room", "orbit_left", guidance_scale=guidance, output_type="latent")
        assert isinstance(made, torch.Tensor)
        return made

    latents = sample()
    frames = pipe.decode_frames(latents.chunk(2, -1)[0])[0]
    figures = {
        "threads": torch.get_num_threads(),
        "load s": loading,
        "sample s": seconds(sample, args.repeats),
        "sample with guidance s": seconds(lambda: sample(3.0), args.repeats),
        "decode frames s": seconds(lambda: pipe.decode_frames(latents.chunk(2, -1)[0]), args.repeats),
        "look again s": seconds(lambda: pipe.reconstruct(frames, feed_forward=True), args.repeats),
        "decode geometry s": seconds(lambda: pipe.decode_geometry(latents.chunk(2, -1)[1]), args.repeats),
    }
    pipe.mixed_precision = False
    figures["sample in float32 s"] = seconds(sample, args.repeats)
    figures["peak memory GiB"] = peak_gib()
    print(json.dumps({k: round(v, 2) for k, v in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
