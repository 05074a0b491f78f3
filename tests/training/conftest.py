"""Clips and latents that the tests of training share."""

from pathlib import Path

import pytest

from gen3r.data.synthesis import synthesize


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `tiny_stage`."""
    folder = tmp_path_factory.mktemp("training")
    synthesize(folder / "clips", 2, frames=17, size=112, workers=1)
    return folder
