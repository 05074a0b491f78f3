"""Training does today what it did before."""

import json
from pathlib import Path

import pytest

from tests.golden_curves import CLOSE, CLOSE_TOLERANCE, PATH, STEPS, TOLERANCE, curve
from tests.training.stages import NAMES

FIRST = 2  # steps: the second loss shows what the first step did


@pytest.mark.parametrize("name", NAMES)
def test_the_first_losses(name: str, training_data: Path, tmp_path: Path) -> None:
    golden = json.loads(PATH.read_text())[name]
    losses = curve(name, training_data / "clips", tmp_path / name, steps=FIRST)
    assert losses == pytest.approx(golden[:FIRST], rel=CLOSE_TOLERANCE)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_golden_loss_curve(name: str, training_data: Path, tmp_path: Path) -> None:
    golden = json.loads(PATH.read_text())[name]
    assert len(golden) == STEPS
    losses = curve(name, training_data / "clips", tmp_path / name)
    assert losses[:CLOSE] == pytest.approx(golden[:CLOSE], rel=CLOSE_TOLERANCE)
    assert losses == pytest.approx(golden, rel=TOLERANCE)
