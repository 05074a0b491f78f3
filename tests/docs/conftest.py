"""A tiny model in the place of nano."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from gen3r import locations


@pytest.fixture
def tiny_nano(model: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What loads `nano` gets a tiny model, which needs a fraction of the time."""
    packaged = tmp_path_factory.mktemp("packaged")
    (packaged / "nano").symlink_to(model)
    monkeypatch.setattr(locations, "PACKAGED", packaged)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the prompt has")  # more tokens than the tiny text encoder takes
        yield
