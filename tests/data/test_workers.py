"""Work in several processes."""

import subprocess
import sys

WAITING = """
import os, signal
from gen3r.data.workers import in_parallel

def wait(number):
    os.write(1, b"x")
    signal.pause()

list(in_parallel(wait, [0, 1], 2))
"""


def test_workers_end_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read(2) == b"xx"
        parent.kill()
        assert parent.stdout.read() == b""  # the end: no process has the pipe any more
