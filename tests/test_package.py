"""The package as it is installed: what importing costs, and what its own files promise."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gen3r

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "numpy", "diffusers", "transformers", "av", "PIL")


def test_importing_loads_nothing_heavy():
    code = f"import sys, gen3r; print([m for m in {HEAVY} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom gen3r.cli.main import build_parser\n"
        f"build_parser().format_help(); print([m for m in {HEAVY} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [n for n in gen3r.__all__ if n != "__version__"])
def test_public_names_are_what_they_say(name: str):
    assert getattr(gen3r, name).__name__ == name
    assert name in dir(gen3r)


def test_unknown_names_are_no_attribute():
    with pytest.raises(AttributeError, match="gen3rr"):
        gen3r.gen3rr  # noqa: B018


def test_the_changelog_knows_this_version():
    assert f"## {gen3r.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_cover_what_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=~! ]", d)[0] for d in wanted} - {"gen3r"}
    pins = (line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {name.lower().replace("_", "-") for name in pins}
    assert names - pinned == set()


def test_a_missing_extra_is_one_line(tmp_path: Path):
    commands = [["evaluate"], ["data", "synthesize", "1", "clips"]]
    code = (
        "import sys; sys.modules['trimesh'] = None\nfrom gen3r.cli.main import main\n"
        f"print([main(command) for command in {commands}])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert shown.stdout == "[2, 2]\n"
    assert re.fullmatch(r"(gen3r: error: .* pip install 'gen3r\[world\]'\n){2}", shown.stderr)


@pytest.mark.nightly
def test_real_clips_are_measured_without_the_procedural_world():
    code = "import sys; sys.modules['embreex'] = None; import gen3r.evaluation.datasets, gen3r.evaluation.generation"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_linked_files_exist(page: str):
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [x for x in links if "://" not in x and not ((ROOT / page).parent / x).exists()]
    assert missing == []


def test_the_page_on_generate_has_every_option():
    shown = subprocess.run(
        [sys.executable, "-m", "gen3r.cli.main", "generate", "--help"], capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "generate.md").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z][a-z-]+", shown.stdout.split("camera paths (")[0])) - {"--help"}
    assert {o for o in options if f"`{o}" not in page} == set()
