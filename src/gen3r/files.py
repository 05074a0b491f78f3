"""Writing a file so that it is there whole or not at all, and links to what is shared."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gen3r.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix, that becomes `path` when the block ends well.

    Raises:
        InputError: the folder cannot be written to, or is full.
    """
    path = Path(path)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        partial = Path(name)
        yield partial
        partial.chmod(0o644)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; choose another folder or free space"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def link(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`, unless it is a link already."""
    if not path.is_symlink():
        path.symlink_to(target.resolve())
