"""Options that are declared once, as fields of the dataclass that reads them, and become arguments of the command line.

A field made by `option` carries its help text. `add_options` adds such fields to a parser. `read_options` makes the
dataclass from the parsed arguments, and `given_options` tells which of them a person gave. `read_values` reads the same
options from JSON.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from gen3r.errors import InputError

Options = TypeVar("Options")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
Container = argparse.ArgumentParser | argparse._ArgumentGroup


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    flag: str | None = None,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
    parse: Callable[[str], Any] | None = None,
    positional: bool = False,
    positive: bool = False,
) -> Any:
    """A dataclass field that is an option. Without a default it is required.

    The field's type decides how the text is read: int, float, str, Path, bool (a switch), Literal (choices), a tuple
    (several values), each also with `| None`. parse: reads the text instead. flag: the name on the command line, by
    default the field's own with hyphens. positive: other numbers are refused when the options are read.
    """
    metadata = {
        "help": help, "flag": flag, "metavar": metavar, "choices": choices, "parse": parse, "positional": positional,
        "positive": positive,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


def add_options(parser: Container, options: type, *names: str, **changes: dict[str, Any]) -> None:
    """Adds the options of a dataclass to a parser or a group: those of these names, in that order, or all.

    changes: other arguments of argparse's `add_argument`, by field name.
    """
    declared = {f.name: f for f in options_of(options)}
    for name in names or declared:
        f = declared[name]
        reading = {"type": f.metadata["parse"]} if f.metadata["parse"] else _reading(f.type)
        stated = {key: f.metadata[key] for key in ("help", "metavar", "choices") if f.metadata[key] is not None}
        arguments = {"default": argparse.SUPPRESS, **reading, **stated}
        if f.metadata["positional"]:
            parser.add_argument(name, **{**arguments, **changes.get(name, {})})
            continue
        if f.default is MISSING:
            arguments["required"] = True
        parser.add_argument(_flag(f), dest=name, **{**arguments, **changes.get(name, {})})


def options_of(options: type) -> list[Field[Any]]:
    """The fields of a dataclass that are options."""
    return [f for f in fields(options) if "help" in f.metadata]


def _flag(f: Field[Any]) -> str:
    """An option's name on the command line."""
    return f.metadata["flag"] or "--" + f.name.replace("_", "-")


def _plain(kind: Any) -> Any:
    """A type without `| None`."""
    if get_origin(kind) in (UnionType, Union):  # the latter where one of them is a Literal
        return next(k for k in get_args(kind) if k is not NoneType)
    return kind


def _reading(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    kind = _plain(kind)
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is tuple:
        return {**_reading(get_args(kind)[0]), "nargs": "*"}
    if kind is bool:
        return {"action": "store_true"}
    return {"type": kind} if kind in (int, float, Path) else {}


def given_options(args: argparse.Namespace, options: type) -> dict[str, Any]:
    """The options of a dataclass that stand on the command line.

    Raises:
        InputError: a number that must be positive is not.
    """
    given = {f.name: getattr(args, f.name) for f in fields(options) if hasattr(args, f.name)}
    check_positive(options, given)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def read_options(args: argparse.Namespace, options: type[Options]) -> Options:
    """The dataclass with what stands on the command line, and its own defaults for the rest."""
    return options(**given_options(args, options))


def check_positive(options: type, values: Mapping[str, Any]) -> None:
    """Refuses values for the fields of a dataclass that must be positive.

    Raises:
        InputError: names the option.
    """
    for f in fields(options):
        value = values.get(f.name)
        if f.metadata.get("positive") and value is not None and not 0 < value < math.inf:
            least = "at least 1" if isinstance(value, int) else "finite" if value == math.inf else "positive"
            raise InputError(f"{f.name if f.metadata['positional'] else _flag(f)} must be {least}, not {value:g}")


def read_values(values: Any, *options: type) -> dict[str, Any]:
    """Values of the options of these dataclasses from a JSON object, by the names of their fields.

    Raises:
        InputError: the name of no option, or a value that is not of the option's type.
    """
    if not isinstance(values, dict):
        raise InputError(f"options are a JSON object, not {type(values).__name__}")
    declared = {f.name: f for kind in options for f in options_of(kind)}
    if unknown := sorted(set(values) - set(declared)):
        raise InputError(f"no option named {unknown[0]}; there are: {', '.join(declared)}")
    return {name: _read_value(declared[name], value) for name, value in values.items()}


def _read_value(f: Field[Any], value: Any) -> Any:
    if value is None and f.default is None:
        return None
    try:
        if f.metadata["parse"] and isinstance(value, (str, int)):
            return f.metadata["parse"](str(value))
        return _of_type(f.type, value)
    except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
        meant = f.metadata["help"] if f.metadata["parse"] else _meant(f.type)
        raise InputError(f"{f.name} is {meant}; not {value!r:.80}") from error


def _meant(kind: Any) -> str:
    """What a value of this type is, in words."""
    kind = _plain(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return "a list" if get_origin(kind) is tuple else _KINDS[kind]


def _of_type(kind: Any, value: Any) -> Any:
    """A JSON value as a value of this type; ValueError where it is none."""
    kind = _plain(kind)
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = get_args(kind)
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return tuple(_of_type(k, v) for k, v in zip(kinds, value, strict=True))
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(value)


def parse_size(text: str) -> tuple[int, int]:
    """`N` or `HxW` as (height, width)."""
    try:
        parts = [int(x) for x in text.lower().split("x")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2):
        raise argparse.ArgumentTypeError(f"a size is N or HEIGHTxWIDTH in pixels, such as 112 or 112x224, not {text}")
    return parts[0], parts[-1]
