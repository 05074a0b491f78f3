"""Time and memory of VGGT-1B as a model for geometry, with random weights in bfloat16.

    python benchmarks/geometry_model.py [FRAMESxHEIGHTxWIDTH ...]

Each case runs in a process of its own. Processor time is that of all threads. The peak is the resident memory, with
weights and imports.
"""

import resource
import subprocess
import sys
import time

import torch

from gen3r.models.geometry import VGGTGeometry
from gen3r.models.vggt import VGGT

CASES = ["2x280x392", "9x280x392", "17x280x392", "2x518x518", "9x518x518", "17x518x518"]


def measure(case: str) -> None:
    """Predicts one clip and prints the figures."""
    with torch.device("meta"):
        vggt = VGGT().to(torch.bfloat16)
    for name in ("camera_head", "point_head", "depth_head"):
        getattr(vggt, name).float()
    vggt = vggt.to_empty(device="cpu").requires_grad_(False)
    for parameter in vggt.parameters():
        parameter.normal_(std=0.02)
    frames, height, width = (int(x) for x in case.split("x"))
    began, busy = time.perf_counter(), time.process_time()
    VGGTGeometry(vggt).predict(torch.rand(1, frames, 3, height, width))
    wall, busy = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{case:<12} {wall:7.1f} s, processor {busy:7.1f} s, peak {peak:.1f} GiB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        measure(sys.argv[2])
    else:
        for case in sys.argv[1:] or CASES:
            subprocess.run([sys.executable, __file__, "--case", case], check=True)
