"""What all tests share."""

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from tests.data.layouts import Truth

# Timings vary on shared machines; the same examples every time keep a failure reproducible.
settings.register_profile("gen3r", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("gen3r")
torch.set_num_threads(1)
# A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def truths() -> "Callable[[str], Truth]":
    """Dataset -> one procedural scene, seen through a lens that the dataset can describe; rendered once a lens."""
    from tests.data.layouts import LAYOUTS

    rendered = cache(lambda lens: lens())
    return lambda name: rendered(LAYOUTS[name].lens)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model, which no test changes."""
    from tests.tiny import tiny_pipeline

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved scenes lack the points and the pictures of them, which take longer than a tiny model does."""
    from gen3r.export.save import WRITERS

    for name in ("points.ply", "scene.html", "preview.png"):
        monkeypatch.delitem(WRITERS, name)
