"""The configuration of a stage: its schedules, and how processes share a batch."""

from dataclasses import replace

import pytest

from gen3r.errors import InputError
from gen3r.training.engine.config import TrainConfig


def test_schedules() -> None:
    plain = TrainConfig(steps=100, batch_size=1, learning_rate=2.0, warmup=10, decay_fraction=0.2)
    rates = [plain.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:81] == [2.0] * 72
    assert rates[90] == pytest.approx(1.0)
    assert plain.learning_rate_at(100) == 0
    cosine = replace(plain, schedule="cosine", floor=0.2)
    rates = [cosine.learning_rate_at(step) for step in range(101)]
    assert rates[4] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.2 * 2 + 0.8 * 2 / 2)
    assert rates[100] == pytest.approx(0.4)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    timed = replace(plain, steps=10**6, minutes=2.0)
    assert [timed.learning_rate_at(500, timed.spent(s)) for s in (0, 60, 90)] == [2.0] * 3
    assert timed.learning_rate_at(500, timed.spent(108)) == pytest.approx(1.0)
    assert timed.learning_rate_at(500, timed.spent(121)) == 0
    assert replace(cosine, steps=10**6, minutes=2.0).learning_rate_at(500, 0.5) == pytest.approx(1.2)


def test_micro_batches_must_be_equal() -> None:
    config = TrainConfig(steps=1, batch_size=8, learning_rate=1.0)
    with pytest.raises(InputError, match="no 3 equal parts"):
        replace(config, micro_batches=3).shared_by(1)
    with pytest.raises(InputError, match="4 processes cannot share 6"):
        replace(config, micro_batches=6).shared_by(4)
    assert config.shared_by(4).micro_batches == 4
