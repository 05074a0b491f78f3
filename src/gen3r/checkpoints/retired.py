"""Configurations that older versions wrote: arguments and names that have changed since."""

import json
from pathlib import Path
from typing import Any

from gen3r.errors import InputError

# Component -> constructor arguments that are gone, and the values that leave the model as it is without them.
RETIRED = {
    "transformer": {"layout": "shared_columns", "given_geometry": "zeros"},
    "geo_adapter": {"time_down": [False, True, True], "linear": False, "residual_blocks": 2},
}


def current_arguments(name: str, config: dict[str, Any], place: Path) -> dict[str, Any]:
    """The constructor arguments of a component in its config.json.

    Raises:
        InputError: a retired argument has a value that changes the model.
    """
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    for key, plain in RETIRED.get(name, {}).items():
        value = arguments.pop(key, plain)
        if json.dumps(value) != json.dumps(plain):
            raise InputError(f"{place}: {key} {value} is no longer supported; load this model with gen3r 0.1")
    if name == "transformer" and arguments.get("unseen_frames") == "rendered":
        arguments["unseen_frames"] = "warped"
    return arguments


def current_defaults(defaults: dict[str, Any]) -> dict[str, Any]:
    """A pipeline's defaults under their present names."""
    defaults = dict(defaults)
    if "hold_given" in defaults:
        defaults["clamp_known"] = defaults.pop("hold_given")
    if "look_again" in defaults:
        defaults["geometry_from"] = "frames" if defaults.pop("look_again") else "latents"
    return defaults
