"""Training does today what it did before."""

import json
from pathlib import Path

import pytest

from tests.golden_curves import PATH, STEPS, TOLERANCE, curve
from tests.training.stages import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_golden_loss_curve(name: str, training_data: Path, tmp_path: Path) -> None:
    golden = json.loads(PATH.read_text())[name]
    assert len(golden) == STEPS
    assert curve(name, training_data, tmp_path) == pytest.approx(golden, rel=TOLERANCE)
