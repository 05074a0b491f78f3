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
from transformers import ByT5Tokenizer

from gen3r.checkpoints import load_components, published_tensor_shapes
from gen3r.models.components import MODULES
from gen3r.models.presets import build_scheduler, published

SKIP = "text_encoder"
SHARD_BYTES = 2 * 2**30
START = torch.tensor([0.0, 0, 0, 0, 0, 0, 0.25, 0.25, 0.25])  # the poses of a camera head with weights near 0


def write_folder(folder: Path, text: bool = False) -> None:
    """The published layout with random numbers, a shard of 2 GiB at a time. text: with the text encoder (11.4 GB)."""
    numbers = torch.empty(1 << 24, dtype=torch.bfloat16).normal_(std=0.02)
    for component, shapes in published_tensor_shapes().items():
        if component == SKIP and not text:
            continue
        place = folder / component.split(".")[0]
        place.mkdir(parents=True, exist_ok=True)
        prefix = component.partition(".")[2]
        shard: dict[str, torch.Tensor] = {}
        where: dict[str, str] = {}
        for name, shape in shapes.items():
            length = torch.Size(shape).numel()
            if sum(2 * t.numel() for t in shard.values()) > SHARD_BYTES:
                save_file(shard, place / next(reversed(where.values())))
                shard = {}
            file = f"model-{len(set(where.values())) + (not shard):05d}.safetensors"
            name = f"{prefix}.{name}" if prefix else name
            values = numbers.repeat(-(-length // len(numbers)))[:length].reshape(shape)
            shard[name] = START.to(torch.bfloat16) if name == "camera_head.pose_branch.fc2.bias" else values.clone()
            where[name] = file
        save_file(shard, place / next(reversed(where.values())))
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    ByT5Tokenizer().save_pretrained(folder / "tokenizer")
    build_scheduler(published()).save_pretrained(folder / "scheduler")
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
