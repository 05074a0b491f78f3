"""Model folders of older versions: what still loads, and what is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gen3r.checkpoints import load_components, model_defaults
from gen3r.checkpoints.load import transformer_config
from gen3r.errors import InputError
from gen3r.locations import PACKAGED
from gen3r.models.presets import nano

# What the configurations of nano held in version 0.1.
TRANSFORMER = {"layout": "shared_columns", "given_geometry": "zeros", "unseen_frames": "rendered"}
ADAPTER = {"time_down": [False, True, True], "linear": False, "residual_blocks": 2}
DEFAULTS = {"hold_given": True, "look_again": True}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """nano as version 0.1 wrote it."""
    folder = Path(shutil.copytree(PACKAGED / "nano", tmp_path / "nano"))
    change(folder / "transformer" / "config.json", TRANSFORMER)
    change(folder / "geo_adapter" / "config.json", ADAPTER)
    index = json.loads((folder / "model_index.json").read_text())
    index["defaults"] = {k: v for k, v in index["defaults"].items() if k in {*nano().defaults} - {"clamp_known"}}
    index["defaults"].pop("geometry_from", None)
    (folder / "model_index.json").write_text(json.dumps(index | {"defaults": index["defaults"] | DEFAULTS}))
    return folder


def change(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_old_nano_folder_loads(old: Path) -> None:
    components = load_components(old, only=("transformer", "geo_adapter"))
    assert components.transformer.config["unseen_frames"] == "warped"
    assert transformer_config(old)["unseen_frames"] == "warped"
    assert components.defaults | {"least_steps": 2} == model_defaults("nano")
    assert (components.defaults["clamp_known"], components.defaults["geometry_from"]) == (True, "frames")
    assert not {"hold_given", "look_again"} & {*components.defaults}


@pytest.mark.parametrize(
    ("component", "argument", "value"),
    [
        ("transformer", "layout", "channels"),
        ("transformer", "given_geometry", "own"),
        ("geo_adapter", "time_down", [False, False, False]),
        ("geo_adapter", "linear", True),
        ("geo_adapter", "residual_blocks", 1),
    ],
)
def test_a_retired_variant_is_refused_by_name(old: Path, component: str, argument: str, value: Any) -> None:
    change(old / component / "config.json", {argument: value})
    with pytest.raises(InputError, match=f"{component}: {argument} .* is no longer supported"):
        load_components(old, only=(component,))


@pytest.mark.parametrize("name", ["DDIMScheduler", None])
def test_an_unknown_scheduler_is_refused(old: Path, name: str | None) -> None:
    change(old / "scheduler" / "scheduler_config.json", {"_class_name": name})
    with pytest.raises(InputError, match=f"the scheduler {name}; gen3r samples with FlowMatchEuler"):
        load_components(old, only=())
