"""The scene that every layout is written from, rendered once a lens."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.data.layouts import LAYOUTS, Truth

Truths = Callable[[str], Truth]


@pytest.fixture(scope="session")
def truths() -> Truths:
    """Dataset -> the scene through a lens that it can describe."""
    rendered = cache(lambda lens: lens())
    return lambda name: rendered(LAYOUTS[name].lens)
