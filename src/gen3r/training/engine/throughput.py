"""How fast a run is: samples a second, and the part of the device's matrix rate that the model's own products use."""

import time
from functools import cache

import torch

ROUNDS = 5


def measure_matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of square matrix products [1/s]: the best of a few."""
    size = 1024 if device.type == "cpu" else 8192
    a = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(ROUNDS):
        finish_work(device)
        began = time.perf_counter()
        torch.mm(a, a)
        finish_work(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


matrix_rate = cache(measure_matrix_rate)


def finish_work(device: torch.device) -> None:
    """Waits for what was given to an accelerator."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Throughput:
    """Samples a second and model FLOPs utilisation (PaLM, app. B) between two calls of `lap`.

    samples: of a step, over all processes. flops: operations of a step of one process. rate: its matrix rate [1/s].
    """

    def __init__(self, samples: int, flops: int, rate: float) -> None:
        self.samples, self.flops, self.rate = samples, flops, rate
        self._since, self._steps = time.perf_counter(), 0

    def step(self) -> None:
        """One more step is done."""
        self._steps += 1

    def lap(self) -> dict[str, float]:
        """The speed since the last call."""
        now = time.perf_counter()
        steps_per_second = self._steps / max(now - self._since, 1e-9)
        self._since, self._steps = now, 0
        return {"samples_per_s": self.samples * steps_per_second, "mfu": self.flops * steps_per_second / self.rate}
