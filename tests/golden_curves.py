"""The losses of a few steps of every stage on tiny models and clips: `python -m tests.golden_curves` writes them anew.

With --check it only reports how far they are from the stored ones.

tests/golden/training.json holds them: float32 and AdamW, for Muon computes in bfloat16. Processors round differently,
and training amplifies it, so the first steps are compared closely and the later ones roughly. A change of a loss, a
model, a schedule or of what is drawn shows in the first steps; one that is meant comes with new numbers.
"""

import itertools
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import torch

from gen3r.data.synthesis import synthesize
from gen3r.files import link
from gen3r.training.engine.logs import read_metrics
from gen3r.training.engine.loop import train
from tests.training.stages import NAMES, tiny_config, tiny_stage

PATH = Path(__file__).parent / "golden" / "training.json"
STEPS = 8
CLOSE = 5  # steps that are compared at CLOSE_TOLERANCE
CLOSE_TOLERANCE, TOLERANCE = 1e-4, 5e-2


@contextmanager
def slow_bfloat16() -> Iterator[None]:
    """Takes this processor for one without units for bfloat16, so that frozen models compute in float32 too."""
    with (
        patch.object(torch.cpu, "_is_amx_tile_supported", lambda: False),
        patch.object(torch.cpu, "_is_avx512_bf16_supported", lambda: False),
    ):
        yield


def curve(name: str, clips: Path, folder: Path, steps: int = STEPS) -> list[float]:
    """The losses of the first `steps` of a run of `STEPS`; `clips` are those of `tiny_stage`."""
    folder.mkdir()
    link(folder / "clips", clips)
    with slow_bfloat16():
        stage = tiny_stage(name, folder)  # encodes latents of its own
        calls = itertools.count(1)
        stage.register_forward_pre_hook(
            lambda *_: signal.raise_signal(signal.SIGTERM) if next(calls) == steps else None
        )
        with suppress(KeyboardInterrupt):  # after the step in which the signal comes
            train(stage, tiny_config(name, steps=STEPS, optimizer="adamw"), folder / "run")
    return [line["loss"] for line in read_metrics(folder / "run")]


def main() -> None:
    """Computes the curves, says how far they are from those before, and writes them."""
    before = json.loads(PATH.read_text())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        synthesize(data / "clips", 2, workers=1)
        curves = {name: curve(name, data / "clips", data / name) for name in NAMES}
    for name, values in curves.items():
        changes = [abs(ours / old - 1) for ours, old in zip(values, before.get(name, values), strict=False)]
        print(f"{name}: changed by {max(changes[:CLOSE]):.1e} in the first {CLOSE} steps, {max(changes):.1e} in all")
    if "--check" not in sys.argv:
        PATH.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
