"""Which size of nano's transformer learns most from the same time or from the same number of operations.

    python benchmarks/scale_nano.py [--folder runs/nano] [--out runs/scaling] [--minutes 15] [--threads 1]

Trains transformers of several widths from new weights for the same time, on the latents that are in --folder, each with
the schedule come to its end, and prints the loss of the averaged weights on held-out clips (held-out/ there), of the
same noise for all, against the operations of training so far. A size that is done stays; one that was stopped goes on
with its clock anew.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from operations import count_flops
from tqdm import tqdm

from gen3r.checkpoints.load import transformer_config
from gen3r.files import link
from gen3r.models.precision import fast_products
from gen3r.training.engine.checkpoint import load_average, saved_step
from gen3r.training.engine.config import TrainConfig
from gen3r.training.engine.trainer import Trainer
from gen3r.training.latent_cache.shards import kinds_of
from gen3r.training.run import Run
from gen3r.training.stages.config import DiffusionConfig
from gen3r.training.stages.stage import Stage
from gen3r.training.weights import new_like

SIZES = {  # heads of 64 channels, and the feed-forward width, 3.5 times theirs
    "half": {"num_attention_heads": 2, "ffn_dim": 448},
    "nano": {"num_attention_heads": 4, "ffn_dim": 896},
    "one and a half": {"num_attention_heads": 6, "ffn_dim": 1344},
}
KEPT = 80  # steps between the checkpoints that are measured
BATCHES, BATCH = 16, 8  # of held-out clips


def open_run(args: argparse.Namespace, name: str) -> Run:
    """The folder of a size, with the clips and latents of --folder."""
    folder = args.out / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    for shared in ("train", "latents"):
        link(folder / shared, args.folder / shared)
    sizes = {"transformer": SIZES[name]}
    return Run(folder, args.start, remake=lambda name, module: new_like(module, **sizes.get(name, {})))


def held_out_run(args: argparse.Namespace) -> Run:
    """A folder whose clips and latents are those of --folder that are held out."""
    folder = args.out / "held-out"
    folder.mkdir(parents=True, exist_ok=True)
    link(folder / "train", args.folder / "held-out")
    run = Run(folder, args.start)
    for kind in kinds_of(transformer_config(args.start)):
        run.encode_latents(kind)
    return run


@torch.no_grad()
def held_out_loss(stage: Stage) -> float:
    """The stage's loss on its latents, on the same batches and noise whatever the weights."""
    losses = []
    for number in range(BATCHES):
        batch = stage.make_batch(np.random.default_rng(number), BATCH)
        torch.manual_seed(number)
        with fast_products(torch.device("cpu")):
            losses.append(float(stage(batch)[0]))
    return sum(losses) / len(losses)


def measure(run: Run, held_out: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Parameters, operations and the held-out loss at every kept checkpoint of a finished size."""
    judge, folder, curve = replace(held_out, remake=run.remake), run.folder / "diffusion", []
    stage = judge.stage("diffusion", DiffusionConfig())
    trainer = Trainer(stage, TrainConfig(steps=1, batch_size=args.batch_size, learning_rate=0.0), Accelerator())
    flops = count_flops(trainer, trainer.draw(0))
    stage.eval()
    for path in tqdm(sorted(folder.glob("checkpoint*")), desc=run.folder.name, unit="checkpoint"):
        load_average(folder, stage, "", path.name)
        step = saved_step(folder, path.name)
        curve.append({"step": step, "TFLOP": round(step * flops / 1e12), "loss": round(held_out_loss(stage), 4)})
    return {
        "M parameters": round(sum(p.numel() for p in stage.components.transformer.parameters()) / 1e6, 2),
        "GFLOP a clip": round(flops / args.batch_size / 1e9, 1),
        "curve": sorted(curve, key=lambda point: point["step"]),
    }


def main() -> None:
    """Trains, measures, and prints a line of JSON for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/nano"), help="clips, held-out clips and latents")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--start", default="nano", help="model that made the latents")
    parser.add_argument("--minutes", type=float, default=15.0, help="of training, for each size")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, help="(default: all cores)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    held_out = held_out_run(args)
    for name in SIZES:
        run = open_run(args, name)
        if not (run.folder / "done").exists():
            run.train("diffusion", {
                "steps": 1_000_000, "minutes": args.minutes, "batch_size": args.batch_size, "ema_decay": 0.98,
                "keep_every": KEPT, "sheet_every": 0,
            })  # fmt: skip
            (run.folder / "done").touch()
        print(json.dumps({name: measure(run, held_out, args)}), flush=True)


if __name__ == "__main__":
    main()
