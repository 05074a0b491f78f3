"""The procedural world: seeded places with exact depth, cameras and captions.

Importing this is light. The first use of a name loads the renderer, which needs the extra gen3r[world].
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gen3r.data.synthetic.options import WorldOptions
from gen3r.errors import InputError

if TYPE_CHECKING:
    from gen3r.data.synthetic.clip import OnlineClips, render_clip

__all__ = ["OnlineClips", "WorldOptions", "render_clip"]

_HOMES = {"OnlineClips": "clip", "render_clip": "clip"}


def __getattr__(name: str) -> Any:
    """A name of the renderer, from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        raise InputError(f"the procedural world needs an extra ({error}): pip install 'gen3r[world]'") from error
    globals()[name] = value
    return value
