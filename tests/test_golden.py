"""Our modules against the published numbers, through the tool that anyone can run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import COMPONENT_TOLERANCE, END_TO_END_TOLERANCE, compare

FOLDER = Path(__file__).parent / "golden"


def test_components() -> None:
    errors = compare(FOLDER / "components")
    assert len(errors) == 27
    assert {n: e for n, e in errors.items() if not e < COMPONENT_TOLERANCE} == {}


def test_end_to_end() -> None:
    errors = compare(FOLDER / "end_to_end")
    assert len(errors) == 11
    assert {n: e for n, e in errors.items() if not e < END_TO_END_TOLERANCE} == {}


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = str(FOLDER.parent / "golden.py")
    return subprocess.run([sys.executable, tool, *arguments], capture_output=True, text=True, check=False)


def test_another_salt_fails_the_tool(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "components", tmp_path / "c")
    meta = json.loads((tmp_path / "c" / "meta.json").read_text())
    (tmp_path / "c" / "meta.json").write_text(json.dumps({**meta, "salt": 1}))
    done = run_tool(str(tmp_path / "c"))
    assert done.returncode == 1
    assert "transformer.out" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("/nowhere",)])
def test_bad_arguments(arguments: tuple[str, ...]) -> None:
    done = run_tool(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
