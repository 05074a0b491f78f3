"""`benchmarks/published.py` on tiny models: rows of figures, rows of errors, and rows that are skipped."""

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def published() -> ModuleType:
    spec = importlib.util.spec_from_file_location("published", ROOT / "benchmarks" / "published.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["published"] = module
    spec.loader.exec_module(module)
    return module


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a table by their names."""
    with path.open() as file:
        return {row["scenario"]: row for row in csv.DictReader(file)}


def test_every_row_has_figures_or_a_reason(published: ModuleType, tmp_path: Path) -> None:
    """What fails ends neither the run nor spoils the next row; nothing is run without time."""
    names = ["plain", "attention _native_cudnn", "attention _native_math", "attention xformers"]
    options = ["--device", "cpu", "--tiny", "--frames", "5", "--out", str(tmp_path / "rows.csv"), "--only"]
    published.main([*options, *names])
    rows = rows_of(tmp_path / "rows.csv")
    assert list(rows) == names
    for name in ("plain", "attention _native_math"):
        assert all(float(rows[name][column]) > 0 for column in ("encode", "step", "decode", "whole", "peak")), name
    assert float(rows["attention _native_math"]["change"]) < 1e-5
    assert rows["attention xformers"]["note"] == "not installed"
    assert "RuntimeError" in rows["attention _native_cudnn"]["note"]
    published.main([*options, "plain", "--minutes", "0"])
    assert rows_of(tmp_path / "rows.csv")["plain"]["note"].startswith("skipped")


@pytest.mark.nightly
def test_all_rows_but_those_of_gpus_run(tmp_path: Path) -> None:
    """The script, with every row."""
    out = tmp_path / "rows.csv"
    call = [str(ROOT / "benchmarks" / "gpu.sh"), "--device", "cpu", "--tiny", "--out", str(out)]
    subprocess.run(call, env=os.environ | {"PYTHON": sys.executable}, check=True, capture_output=True)
    assert {name for name, row in rows_of(out).items() if row["note"] and not name.startswith("attention")} == set()
