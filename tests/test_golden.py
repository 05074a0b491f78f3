"""Our modules against the published numbers, by the tool that anyone can run."""

import json
import shutil
from pathlib import Path

import pytest

from tests.golden import COMPONENT_TOLERANCE, END_TO_END_TOLERANCE, compare, main

FOLDER = Path(__file__).parent / "golden"


def test_components() -> None:
    errors = compare(FOLDER / "components")
    assert len(errors) == 27
    assert {n: e for n, e in errors.items() if not e < COMPONENT_TOLERANCE} == {}


def test_one_view() -> None:
    errors = compare(FOLDER / "end_to_end", stop_after="e2e.one_view.latents")
    assert list(errors) == ["e2e.one_view.control", "e2e.one_view.latents"]
    assert max(errors.values()) < END_TO_END_TOLERANCE


@pytest.mark.nightly
def test_end_to_end() -> None:
    errors = compare(FOLDER / "end_to_end")
    assert len(errors) == 11
    assert {n: e for n, e in errors.items() if not e < END_TO_END_TOLERANCE} == {}


def test_another_salt_fails_the_tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(FOLDER / "components", tmp_path / "c")
    meta = json.loads((tmp_path / "c" / "meta.json").read_text())
    (tmp_path / "c" / "meta.json").write_text(json.dumps({**meta, "salt": 1}))
    assert main([str(tmp_path / "c")]) == 1
    assert "transformer.out" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("/nowhere",)])
def test_bad_arguments(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
