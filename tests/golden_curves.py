"""The losses of 20 steps of every stage on tiny models and clips: `python -m tests.golden_curves` writes them anew.

With --check it only says how far they are from the stored ones.

tests/golden/training.json holds them: float32, one thread, to be reproduced to 1e-6 on the kind of processor that made
them. Others round otherwise, and Muon's bfloat16 iterations make up to 5e-3 of that in 20 steps (`distill` on an AMD
EPYC). A change of a loss, a model, a schedule or of what is drawn shows here; one that is meant comes with new numbers.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path

import torch

from gen3r.data.synthetic import synthesize
from gen3r.training.engine.logs import read_metrics
from gen3r.training.engine.loop import train
from tests.training.stages import NAMES, tiny_config, tiny_stage

PATH = Path(__file__).parent / "golden" / "training.json"
STEPS, TOLERANCE, TOLERANCE_ELSEWHERE = 20, 1e-6, 1e-2


def processor() -> str:
    """The processor's name and the widest instructions that torch uses of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def curve(name: str, data: Path, folder: Path) -> list[float]:
    """The loss of every step; `data` as for `tiny_stage`."""
    train(tiny_stage(name, data), tiny_config(name, steps=STEPS), folder)
    return [line["loss"] for line in read_metrics(folder)]


def main() -> None:
    """Computes the curves, says how far they are from those before, and writes them."""
    torch.set_num_threads(1)
    before = json.loads(PATH.read_text())["losses"] if PATH.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        synthesize(data / "clips", 2, workers=1)
        curves = {name: curve(name, data, data / name) for name in NAMES}
    for name, values in curves.items():
        changes = [abs(ours / old - 1) for ours, old in zip(values, before.get(name, []), strict=False)]
        print(f"{name}: {values[0]:.6g} to {values[-1]:.6g}, changed by {max(changes, default=0):.1e}")
    if "--check" not in sys.argv:
        PATH.write_text(json.dumps({"processor": processor(), "losses": curves}, indent=1) + "\n")


if __name__ == "__main__":
    main()
