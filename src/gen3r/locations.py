"""Where models are. Importing this loads nothing heavy: commands refuse a wrong name before they load anything."""

from pathlib import Path

from gen3r.errors import InputError

PACKAGED = Path(__file__).parent / "weights"


def in_package(folder: Path) -> bool:
    """Whether a model's folder is one of the package's."""
    return folder.is_relative_to(PACKAGED)


def local_model(model: str | Path, accepted: str = "nano, a model folder,") -> Path | None:
    """The folder of a model that is on this machine: `nano` (in the package), or a folder; None for a Hub id.

    accepted: what an error names besides a Hub id.

    Raises:
        InputError: it is none of these.
    """
    if (PACKAGED / str(model) / "model_index.json").is_file():
        return PACKAGED / str(model)
    path = Path(model).expanduser()
    if str(model) and path.is_dir():
        return path
    if not str(model) or path.exists() or str(model).count("/") != 1 or str(model).startswith((".", "/", "~")):
        raise InputError(f"no model at {str(model)!r}: give {accepted} or a Hub id such as owner/name")
    return None
