"""Training does today what it did before."""

import json
from pathlib import Path

import pytest

from tests.golden_curves import PATH, STEPS, TOLERANCE, TOLERANCE_ELSEWHERE, curve, processor
from tests.training.stages import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_golden_loss_curve(name: str, training_data: Path, tmp_path: Path) -> None:
    golden = json.loads(PATH.read_text())
    assert len(golden["losses"][name]) == STEPS
    tolerance = TOLERANCE if golden["processor"] == processor() else TOLERANCE_ELSEWHERE
    assert curve(name, training_data, tmp_path) == pytest.approx(golden["losses"][name], rel=tolerance)
