"""Training does today what it did before."""

import json
from pathlib import Path

import pytest

from tests.golden_curves import CLOSE, CLOSE_TOLERANCE, PATH, STEPS, TOLERANCE, curve
from tests.training.stages import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_golden_loss_curve(name: str, training_data: Path, tmp_path: Path) -> None:
    golden = json.loads(PATH.read_text())[name]
    assert len(golden) == STEPS
    losses = curve(name, training_data / "clips", tmp_path / name)
    assert losses[:CLOSE] == pytest.approx(golden[:CLOSE], rel=CLOSE_TOLERANCE)
    assert losses == pytest.approx(golden, rel=TOLERANCE)
