"""The documentation is run: every Python block, and every command in a shell block.

Comments that no reader sees steer this, on the line above a block:

<!-- run -->              runs the `gen3r` commands of a shell block (by default their arguments are parsed only)
<!-- run nightly -->      the same in the nightly tests alone
<!-- do not run: why -->  compiles a Python block only (by default it is executed)
<!-- setup: CODE -->      executes CODE before a Python block

The blocks of a page share one namespace and one temporary folder, which holds the files that the page names. Bash
itself expands loops and braces; its PATH has nothing but stand-ins that record their arguments. `nano` is a tiny model
with random weights, except in the nightly tests and for the README's Python.
"""

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from gen3r.cli.main import build_parser, main
from gen3r.export.formats import FORMATS
from gen3r.export.video import write_video
from tests.data.layouts import LAYOUTS, Truth

ROOT = Path(__file__).parents[2]
CARD = "src/gen3r/weights/nano/README.md"
PAGES = ["README.md", CARD, *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
PROSE = [*PAGES, "CHANGELOG.md", "dev/LOG.md"]
GENERATED = "docs/ablations/results.md"
PROGRAMS = ("gen3r", "torchrun", "accelerate", "python", "pip", "make", "gsutil")
BLOCK = re.compile(r"(?:^<!-- (?P<note>[^>]*?)\s*-->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block. line: of its first line of code, in its page."""

    note: str
    language: str
    text: str
    line: int


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = (
        Block(m["note"] or "", m["language"], m["text"], text[: m.start("text")].count("\n") + 1)
        for m in BLOCK.finditer(text)
    )
    return [b for b in found if b.language in languages]


def pages_with(*languages: str, note: str | None = None) -> list[str]:
    """The pages that have such blocks, with this note if one is named."""
    return [p for p in PAGES if any(note in (None, b.note) for b in blocks(p, *languages))]


def commands(block: str, folder: Path) -> Iterator[list[str]]:
    """The commands that bash would start, in order, each as its program and arguments."""
    stand_ins, record = folder / "stand-ins", folder / "record"
    stand_ins.mkdir()
    for name in PROGRAMS:
        (stand_ins / name).write_text('#!/bin/sh\nprintf "%s\\036" "${0##*/}" "$@" "" >> "$RECORD"\n')
        (stand_ins / name).chmod(0o755)
    record.touch()
    subprocess.run(
        ["/bin/bash", "-euc", block], check=True, cwd=folder, env={"PATH": str(stand_ins), "RECORD": str(record)}
    )
    for words in record.read_text().split("\036\036")[:-1]:
        yield words.split("\036")


def gen3r_arguments(command: list[str]) -> list[str] | None:
    """The arguments for `gen3r`, also where torchrun, accelerate or python start it; None for other programs."""
    if command[0] == "gen3r":
        return command[1:]
    return command[command.index("gen3r.cli.main") + 1 :] if "gen3r.cli.main" in command else None


def check_command(command: list[str]) -> None:
    """Fails where the project does not have what a command names."""
    arguments = gen3r_arguments(command)
    if arguments is not None:
        build_parser().parse_args(arguments)
    elif command[0] == "make":
        assert re.search(rf"^{command[1]}:", (ROOT / "Makefile").read_text(), re.M), command
    elif command[0] == "pip":
        check_installation(command)
    elif command[:2] == ["python", "-m"]:
        assert import_module(f"{command[2]}.__main__").main([*command[3:], "--dry-run"]) == 0, command
    elif command[0] == "python":
        assert (ROOT / command[1]).exists(), command
    else:
        assert command[0] == "gsutil", command


def check_installation(command: list[str]) -> None:
    """Fails where an extra, or a file of constraints, is not there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [name for word in command for match in re.findall(r"\[([\w,]+)\]", word) for name in match.split(",")]
    assert set(named) <= set(extras), command
    assert all((ROOT / file).exists() for flag, file in pairwise(command) if flag == "-c"), command


@pytest.fixture
def workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truths: "Callable[[str], Truth]"
) -> Callable[[str], None]:
    """Page -> the files that it names, in the current folder, which is a temporary one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def prepare(page: str) -> None:
        text = (ROOT / page).read_text(encoding="utf-8")
        gradient = torch.linspace(0, 255, 120).to(torch.uint8).expand(90, 120)
        pixels = torch.stack([gradient, gradient.flip(1), gradient // 2], dim=-1)
        picture = Image.fromarray(pixels.numpy())
        for number, name in enumerate(re.findall(r"\b\w+\.(?:jpg|png)\b", text)):  # no two are the same
            Image.fromarray(pixels.roll(number, 1).numpy()).save(tmp_path / name)
        for name in re.findall(r"\b\w+\.mp4\b", text):
            write_video(pixels.expand(20, -1, -1, -1), tmp_path / name)
        if "images/" in text:
            (tmp_path / "images").mkdir()
            for i in range(17):
                picture.save(tmp_path / "images" / f"{i:02}.png")
        if "downloads/wildrgbd" in text:
            LAYOUTS["wildrgbd"].write(tmp_path / "downloads" / "wildrgbd", truths("wildrgbd"))

    return prepare


@pytest.mark.parametrize("page", pages_with("python"))
@pytest.mark.usefixtures("tiny_nano")
def test_python_blocks_run(page: str, workspace: Callable[[str], None]):
    run_python(page, workspace)


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=() if p == "README.md" else pytest.mark.nightly) for p in pages_with("python")]
)
def test_python_blocks_run_with_nano(page: str, workspace: Callable[[str], None]):
    run_python(page, workspace)


def run_python(page: str, workspace: Callable[[str], None]) -> None:
    """Executes the Python blocks of a page, in order."""
    workspace(page)
    namespace: dict[str, Any] = {"__name__": page}
    for block in blocks(page, "python"):
        if block.note.startswith("setup:"):
            exec(block.note.removeprefix("setup:").strip(), namespace)
        code = compile("\n" * (block.line - 1) + block.text, str(ROOT / page), "exec")
        if not block.note.startswith("do not run"):
            exec(code, namespace)


@pytest.mark.parametrize("page", pages_with("sh", "bash", "console"))
def test_commands_exist(page: str, tmp_path: Path):
    for i, block in enumerate(blocks(page, "sh", "bash", "console")):
        folder = tmp_path / str(i)
        folder.mkdir()
        for command in commands(block.text, folder):
            check_command(command)


@pytest.mark.parametrize("page", pages_with("sh", note="run"))
@pytest.mark.usefixtures("tiny_nano")
def test_commands_run(page: str, workspace: Callable[[str], None], tmp_path: Path):
    run_commands(page, ("run",), workspace, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("page", sorted({*pages_with("sh", note="run"), *pages_with("sh", note="run nightly")}))
def test_commands_run_with_nano(page: str, workspace: Callable[[str], None], tmp_path: Path):
    run_commands(page, ("run", "run nightly"), workspace, tmp_path)


def run_commands(page: str, notes: tuple[str, ...], workspace: Callable[[str], None], tmp_path: Path) -> None:
    """Runs the `gen3r` commands of the blocks with these notes, in order."""
    workspace(page)
    for i, block in enumerate(b for b in blocks(page, "sh") if b.note in notes):
        folder = tmp_path / f".commands-{i}"
        folder.mkdir()
        for command in commands(block.text, folder):
            arguments = gen3r_arguments(command)
            assert arguments is None or main(arguments) == 0, command


@pytest.mark.parametrize("page", [p for p in PROSE if p != GENERATED])
def test_lines_are_short(page: str):
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert [i for i, line in enumerate(lines, 1) if len(line) > 120] == []


def test_the_page_on_export_has_the_table_of_formats():
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    for name, f in FORMATS.items():
        needed = f" `gen3r[{f.extra}]`" if f.extra else ""
        assert f"| `{name}` | `{f.path}` | {f.what} | {f.axes} |{needed} |\n" in page


def test_every_page_is_in_the_contents():
    contents = (ROOT / "mkdocs.yml").read_text()
    assert [p for p in PAGES if p.startswith("docs/") and p.removeprefix("docs/") not in contents] == []


def test_files_in_the_tables_of_the_readme_exist():
    folders = "src|tests|docs|examples|experiments|benchmarks|dev"
    names = re.findall(rf"`((?:{folders})/[\w/.]*)`", (ROOT / "README.md").read_text())
    assert names
    assert [n for n in names if not (ROOT / n).exists()] == []
