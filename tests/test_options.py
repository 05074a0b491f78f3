"""Dataclass fields as options of the command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from gen3r.errors import InputError
from gen3r.options import add_options, given_options, option, read_options


@dataclass(frozen=True, kw_only=True)
class Baking:
    loaf: Path = option(help="what to bake", metavar="FILE")
    minutes: float = option(40.0, "how long", positive=True)
    crust: Literal["soft", "hard"] = option("soft", "how the crust is to be")
    seeds: tuple[int, ...] = option((), "how many seeds on each")
    fan: bool = option(False, "with hot air", flag="--hot-air")
    layers: int | None = option(None, "how many layers", positive=True)
    glaze: Literal["egg", "milk"] | None = option(None, "what to brush it with")
    secret: int = 7


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Baking)
    return parser.parse_args(words)


def test_fields_become_options_and_options_the_dataclass() -> None:
    words = ["--loaf", "rye", "--minutes", "50", "--crust", "hard", "--seeds", "3", "4", "--hot-air", "--layers", "2"]
    assert read_options(parse(*words), Baking) == Baking(
        loaf=Path("rye"), minutes=50.0, crust="hard", seeds=(3, 4), fan=True, layers=2
    )


def test_what_is_left_out_has_the_dataclass_default_and_was_not_given() -> None:
    args = parse("--loaf", "rye")
    assert read_options(args, Baking) == Baking(loaf=Path("rye"))
    assert given_options(args, Baking) == {"loaf": Path("rye")}


@pytest.mark.parametrize(
    "words", [["--crust", "none", "--loaf", "x"], ["--glaze", "tar", "--loaf", "x"], ["--secret", "1", "--loaf", "x"]]
)
def test_other_choices_and_fields_without_help_are_no_options(words: list[str]) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parse(*words, "--loaf", "x")


def test_a_choice_of_fields_in_an_order() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Baking, "layers", "minutes", minutes={"help": "other words"})
    text = parser.format_help()
    assert text.index("--layers") < text.index("--minutes") < text.index("other words")
    assert "--crust" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--layers", "0"], "--layers must be at least 1, not 0"),
        (["--minutes", "0"], "--minutes must be positive, not 0"),
        (["--minutes", "nan"], "--minutes must be positive, not nan"),
    ],
)
def test_numbers_that_must_be_positive(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_options(parse("--loaf", "rye", *words), Baking)
