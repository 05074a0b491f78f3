"""A model folder to read, and one to damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ours(model: Path) -> Path:
    return model


@pytest.fixture
def copy(ours: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ours, tmp_path / "copy"))
