"""The scene that every layout is written from, rendered once."""

import pytest

from tests.data.layouts import Truth, render_truth


@pytest.fixture(scope="session")
def truth() -> Truth:
    return render_truth()
