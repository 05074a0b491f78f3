"""Gen3R: a photo in, a 3-D scene out. Importing this loads nothing heavy; names load when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen3r.cameras.camera import Cameras
    from gen3r.cameras.formats import read_cameras, write_cameras
    from gen3r.cameras.paths import trajectory
    from gen3r.errors import InputError
    from gen3r.export.save import save_scene
    from gen3r.pipeline import Gen3RPipeline
    from gen3r.scene import Scene

__version__ = "0.1.0"
__all__ = [
    "Cameras",
    "Gen3RPipeline",
    "InputError",
    "Scene",
    "__version__",
    "read_cameras",
    "save_scene",
    "trajectory",
    "write_cameras",
]

_HOMES = {
    "Cameras": "gen3r.cameras.camera",
    "Gen3RPipeline": "gen3r.pipeline",
    "InputError": "gen3r.errors",
    "Scene": "gen3r.scene",
    "read_cameras": "gen3r.cameras.formats",
    "save_scene": "gen3r.export.save",
    "trajectory": "gen3r.cameras.paths",
    "write_cameras": "gen3r.cameras.formats",
}


def __getattr__(name: str) -> Any:
    """The public name, from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gen3r' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
