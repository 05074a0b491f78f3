"""Clips and models for the tests of the latent cache."""

import pytest

from gen3r.data.shards import ClipShards
from gen3r.data.synthesis import synthesize
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.latent_cache import encode
from tests.tiny import tiny_pipeline
from tests.training.latent_cache import COUNT


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipShards:
    folder = tmp_path_factory.mktemp("clips")
    synthesize(folder, COUNT, frames=5, size=112, workers=1)
    return ClipShards(folder)


@pytest.fixture(scope="session")
def test_clips(tmp_path_factory: pytest.TempPathFactory) -> ClipShards:
    """Clips of another split."""
    folder = tmp_path_factory.mktemp("test")
    synthesize(folder, 2, "test", frames=5, size=112, workers=1)
    return ClipShards(folder)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Gen3RPipeline:
    monkeypatch.setattr(encode, "SHARD_CLIPS", 2)  # so that five clips fill three shards
    return tiny_pipeline()
