"""Work in several processes."""

import os
import signal
import subprocess
import sys

from gen3r.data.synthetic import render_clip
from gen3r.data.workers import in_parallel

WAITING = """
from gen3r.data.workers import in_parallel
from tests.data.test_workers import wait

list(in_parallel(wait, [0, 1], 2))
"""


def wait(_: int) -> None:
    os.write(1, b"x")
    signal.pause()


def render(seed: int) -> float:
    return float(render_clip(seed, 2, 28, 28).depth.sum())


def test_workers_end_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read(2) == b"xx"
        parent.kill()
        assert parent.stdout.read() == b""  # the end: no process has the pipe any more


def test_workers_render_beside_a_parent_that_has_rendered() -> None:
    """Embree's threads are not there in a copy of a process, which would wait for them."""
    assert list(in_parallel(render, [1, 0], 2)) == [render(1), render(0)]
    assert list(in_parallel(render, [1, 0], 2)) == [render(1), render(0)]
