"""Memory and time to load the published size, from a folder of random bfloat16 tensors in the published layout.

    python benchmarks/load_published.py [FOLDER]

Writes the folder (7.3 GB; text encoder aside, which transformers loads) unless it is there, then loads it in a process
of its own and reads every parameter. The peak is the process's resident memory above what the imports take, with the
pages of the mapped files in it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from gen3r.checkpoints import load_components, published_tensor_shapes
from gen3r.models.components import MODULES

SKIP = "text_encoder"
SHARD_BYTES = 4 * 2**30


def write_folder(folder: Path) -> None:
    """The published layout with random numbers: one shard of at most 4 GB at a time in memory."""
    for component, shapes in published_tensor_shapes().items():
        if component == SKIP:
            continue
        place = folder / component.split(".")[0]
        place.mkdir(parents=True, exist_ok=True)
        prefix = component.partition(".")[2]
        shard: dict[str, torch.Tensor] = {}
        size, number = 0, 0
        for name, shape in shapes.items():
            shard[f"{prefix}.{name}" if prefix else name] = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
            size += 2 * torch.Size(shape).numel()
            if size > SHARD_BYTES:
                save_file(shard, place / f"model-{number:05d}.safetensors")
                shard, size, number = {}, 0, number + 1
        save_file(shard, place / f"model-{number:05d}.safetensors")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"shift": 2.0}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Gen3RPipeline"}))


def memory(field: str) -> int:
    """Bytes of this process, VmRSS (now) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def load(folder: Path) -> None:
    """Loads, reads every parameter, prints the figures."""
    before, began = memory("VmRSS"), time.perf_counter()
    components = load_components(folder, only={*MODULES} - {SKIP})
    loaded = time.perf_counter() - began
    modules = components.modules().values()
    weights = [p for m in modules for p in m.parameters()]
    for weight in weights:
        weight.float().sum()
    size = sum(p.numel() * p.element_size() for p in weights)
    peak = memory("VmHWM") - before
    print(f"parameters {sum(p.numel() for p in weights) / 1e9:.2f} G, weights {size / 2**30:.2f} GiB")
    print(f"loaded in {loaded:.1f} s, peak {peak / 2**30:.2f} GiB = {peak / size:.3f} x the weights")


def main() -> None:
    """Both steps; the second in a fresh process, whose peak is its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="kept for the next run (default: a temporary one)")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        load(args.folder)
        return
    folder = args.folder or Path(tempfile.mkdtemp(prefix="gen3r-published-"))
    try:
        if not (folder / "model_index.json").exists():
            print(f"writing {folder} ...")
            write_folder(folder)
        subprocess.run([sys.executable, __file__, str(folder), "--load"], check=True)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
