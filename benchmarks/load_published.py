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
from transformers import ByT5Tokenizer

from gen3r.checkpoints import load_components, published_tensor_shapes
from gen3r.models.components import MODULES
from gen3r.models.presets import build_scheduler, published

SKIP = "text_encoder"
BIAS = "camera_head.pose_branch.fc2.bias"  # the poses that a head with weights near 0 predicts; they must be valid
START = torch.tensor([0.0, 0, 0, 0, 0, 0, 0.25, 0.25, 0.25], dtype=torch.bfloat16)


def write_folder(folder: Path, text: bool = False) -> None:
    """The published layout with random numbers. text: with the text encoder (11.4 GB)."""
    numbers = torch.empty(1 << 24, dtype=torch.bfloat16).normal_(std=0.02)
    for component, shapes in published_tensor_shapes().items():
        if component == SKIP and not text:
            continue
        name, _, prefix = component.partition(".")
        (folder / name).mkdir(parents=True, exist_ok=True)
        _write_tensors(folder / name / "model.safetensors", f"{prefix}." if prefix else "", shapes, numbers)
    ByT5Tokenizer().save_pretrained(folder / "tokenizer")
    build_scheduler(published()).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Gen3RPipeline"}))


def _write_tensors(path: Path, prefix: str, shapes: dict[str, list[int]], numbers: torch.Tensor) -> None:
    """A file of bfloat16 tensors that repeat the same numbers, for which none of them is held in memory."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[prefix + name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    content = memoryview(numbers.view(torch.uint8).numpy())
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for done in range(0, end, len(content)):
            file.write(content[: end - done])
        if BIAS in header:
            file.seek(8 + len(text) + header[BIAS]["data_offsets"][0])
            file.write(START.view(torch.uint8).numpy().tobytes())


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
