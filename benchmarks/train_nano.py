"""Throughput and efficiency of a training step of nano's diffusion stage, against the matrix products of this machine.

    python benchmarks/train_nano.py [--batch-size 8] [--steps 5] [--threads N]

Renders and encodes a few clips, then times whole steps: batch, forward, backward, clipping, optimizer. Floating-point
operations are torch's count for forward and backward (products, convolutions, attention); the matrix rate is of square
products in the device's fast type, measured between the steps, so that both see the same load. Needs gen3r[world].
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gen3r.checkpoints import load_components
from gen3r.data.shards import ClipShards, synthesize
from gen3r.models.precision import fast_dtype, fast_products
from gen3r.models.presets import nano
from gen3r.training.diffusion_step import DiffusionStage
from gen3r.training.encoding import clip_encoder, encode_clips
from gen3r.training.latents import HALVES, LatentShards
from gen3r.training.optimizers import MuonAdamW

SIDE = 2048


def matrix_gflops(device: torch.device) -> float:
    """Rate [GFLOP/s] of a square product in the device's fast type."""
    a = torch.randn(SIDE, SIDE, device=device, dtype=fast_dtype(device))
    a @ a
    _wait(device)
    began = time.perf_counter()
    for _ in range(4):
        a @ a
    _wait(device)
    return 4 * 2 * SIDE**3 / (time.perf_counter() - began) / 1e9


def diffusion_stage(folder: Path, device: torch.device) -> DiffusionStage:
    """The stage with nano's weights on a few clips of the procedural world."""
    config = nano()
    synthesize(folder / "clips", 4, workers=1)
    clips, parts = ClipShards(folder / "clips"), load_components("nano", torch.float32)
    encoders = [clip_encoder(half, parts, config.text_length) for half in HALVES]
    encode_clips(encoders, clips, folder / "latents")
    models = {name: value for encoder in encoders for name, value in encoder.models.items()}
    latents = LatentShards(folder / "latents", models, clips.shape, clips)
    stage = DiffusionStage(
        parts["transformer"], parts["text_encoder"], parts["image_encoder"], parts["tokenizer"], parts["vae"], latents,
        config.text_length,
    )  # fmt: skip
    return stage.to(device).train()


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, help="(default: all cores)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = Accelerator().device
    with tempfile.TemporaryDirectory() as folder:
        stage = diffusion_stage(Path(folder), device)
        optimizer = MuonAdamW(stage, 1e-4, 0.0)

        def batch_of(step: int) -> dict:
            drawn = stage.make_batch(np.random.default_rng(step), args.batch_size)
            return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in drawn.items()}

        def gradients(batch: dict) -> None:
            with fast_products(device):
                loss, _ = stage(batch)
            loss.backward()

        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the CPU's own is not counted
            gradients(batch_of(0))
        gradients(batch_of(0))  # warms up
        seconds, optimizing, rates = [], [], []
        for step in range(1, args.steps + 1):
            rates.append(matrix_gflops(device))
            began = time.perf_counter()
            gradients(batch_of(step))
            _wait(device)
            between = time.perf_counter()
            torch.nn.utils.clip_grad_norm_(stage.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            _wait(device)
            seconds.append(time.perf_counter() - began)
            optimizing.append(time.perf_counter() - between)
    step, rate = statistics.median(seconds), statistics.median(rates)
    gflop = counter.get_total_flops() / 1e9
    figures = {
        "threads": torch.get_num_threads(),
        "batch": args.batch_size,
        "step s": step,
        "of it optimizer s": statistics.median(optimizing),
        "samples/s": args.batch_size / step,
        "GFLOP a sample": gflop / args.batch_size,
        "GFLOP/s of the step": gflop / step,
        f"GFLOP/s of {str(fast_dtype(device)).removeprefix('torch.')} matrices": rate,
        "share of the matrix rate": gflop / step / rate,
        "peak memory GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps({k: round(v, 3) for k, v in figures.items()}, indent=1))


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


if __name__ == "__main__":
    main()
