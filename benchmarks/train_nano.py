"""Throughput and efficiency of a training step of nano's diffusion stage, against the matrix products of this machine.

    python benchmarks/train_nano.py [--batch-size 8] [--steps 5] [--threads N]

Renders and encodes a few clips, then times whole steps: batch, forward, backward, clipping, optimizer. Floating-point
operations are torch's count for forward and backward (products, convolutions, attention); the matrix rate is of square
products in the device's fast type, measured between the steps, so that both see the same load. One more step goes under
the profiler: where a CPU's time goes, which says why that share is what it is. Needs gen3r[world].
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from operations import count_flops
from torch.profiler import ProfilerActivity, profile

from gen3r.checkpoints.load import transformer_config
from gen3r.data.synthesis import synthesize
from gen3r.models.precision import finish_work, measure_matrix_rate
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.trainer import Trainer
from gen3r.training.latent_cache.shards import kinds_of
from gen3r.training.run import Run
from gen3r.training.stages.config import DiffusionConfig
from gen3r.training.stages.stage import Stage

KINDS = {  # of PyTorch's operations, by what their names hold; what is in none moves numbers without products
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "convolution"),
    "attention": ("attention",),
    "copies": ("aten::copy_", "aten::cat", "aten::pixel_unshuffle"),
}


def diffusion_stage(folder: Path) -> Stage:
    """The stage with nano's weights on a few clips of the procedural world."""
    synthesize(folder / "train", 4, workers=1)
    run = Run(folder, "nano")
    for kind in kinds_of(transformer_config("nano")):
        run.encode_latents(kind)
    return run.stage("diffusion", DiffusionConfig())


def time_shares(trainer: Trainer, step: int) -> dict[str, float]:
    """What each kind of operation takes of a CPU's time in one step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        trainer.backward(trainer.draw(step))
        trainer.update(step)
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    shares = {
        f"time in {kind}": sum(time for name, time in times.items() if any(part in name for part in parts)) / total
        for kind, parts in KINDS.items()
    }
    return {**shares, "time in the rest": 1 - sum(shares.values())}


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, help="(default: all cores)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    accelerator = Accelerator()
    device = accelerator.device
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(steps=args.steps + 1, batch_size=args.batch_size, learning_rate=1e-4)
        trainer = Trainer(diffusion_stage(Path(folder)), config, accelerator)
        gflop = count_flops(trainer, trainer.draw(0)) / 1e9
        seconds, optimizing, rates = [], [], []
        for step in range(args.steps + 1):
            rates.append(measure_matrix_rate(device, trainer.dtype) / 1e9)
            began = time.perf_counter()
            trainer.backward(trainer.draw(step))
            finish_work(device)
            between = time.perf_counter()
            trainer.update(step)
            finish_work(device)
            seconds.append(time.perf_counter() - began)
            optimizing.append(time.perf_counter() - between)
        shares = time_shares(trainer, args.steps)
    seconds, optimizing, rates = seconds[1:], optimizing[1:], rates[1:]  # the first step warms up
    step, rate = statistics.median(seconds), statistics.median(rates)
    figures = {
        "threads": torch.get_num_threads(),
        "batch": args.batch_size,
        "step s": step,
        "of it optimizer s": statistics.median(optimizing),
        "samples/s": args.batch_size / step,
        "GFLOP a sample": gflop / args.batch_size,
        "GFLOP/s of the step": gflop / step,
        f"GFLOP/s of {str(trainer.dtype).removeprefix('torch.')} matrices": rate,
        "share of the matrix rate": gflop / step / rate,
        "peak memory GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **shares,
    }
    print(json.dumps({k: round(v, 3) for k, v in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
