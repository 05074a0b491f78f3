"""Writing files and folders so that they are there whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix. When the block ends well, the file there becomes `path`.

    The data is on the disk before the rename. After an error `path` is what it was.

    Raises:
        InputError: the folder cannot be written to, or is full.
    """
    path = Path(path)
    partial = None
    with _write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
            os.close(handle)
            partial = Path(name)
            yield partial
            partial.chmod(0o644)
            _flush(partial)
            os.replace(partial, path)
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path`. When the block ends well, it becomes `path`.

    overwrite: `path` may hold files. Those that the block did not write are kept, the others are replaced all at once.

    Raises:
        InputError: `path` holds something (without `overwrite`), cannot be written to, or the disk is full.
    """
    path = Path(path).resolve()
    check_folder(path, overwrite)
    partial = None
    with _write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            yield partial
            for file in partial.rglob("*"):
                _flush(file)
            partial.chmod(0o755)
            _replace_folder(path, partial)
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)


def check_folder(path: Path, overwrite: bool = False) -> None:
    """Refuses a target folder that holds something or cannot be written, before any work.

    Raises:
        InputError: says which, and what to do.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose a folder")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(f"{path} is not empty; choose another folder or add --overwrite")
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file; choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} cannot be written to; choose another folder")


def write_tensors(tensors: Mapping[str, "Tensor"], path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all. Errors as `whole_file`."""
    from safetensors.torch import save_file

    with whole_file(path) as partial:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, metadata)


def write_text(text: str, path: str | Path) -> None:
    """Writes a UTF-8 text file, whole or not at all. Errors as `whole_file`."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def link(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`, unless it is a link already."""
    if not path.is_symlink():
        path.symlink_to(target.resolve())


def _flush(path: Path) -> None:
    """Waits until the disk has a file: a rename that outlives its data would leave a damaged file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace_folder(path: Path, new: Path) -> None:
    """Puts the folder `new` in the place of `path`, with the files of `path` that it does not have itself.

    A folder that cannot be renamed gets the new files one by one: a mount point, or one in which a process works.
    """
    if not path.exists():
        os.rename(new, path)
    elif not any(path.iterdir()) or path.is_mount() or Path.cwd().is_relative_to(path):
        for item in new.iterdir():
            shutil.move(item, path / item.name)
    else:
        _swap_folders(path, new)


def _swap_folders(path: Path, new: Path) -> None:
    _add_missing(path, new)
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _add_missing(source: Path, target: Path) -> None:
    """Links (or copies) the files of `source` into `target` where it has none of that name."""
    for item in source.iterdir():
        copy = target / item.name
        if copy.exists():
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.copytree(item, copy, symlinks=True, copy_function=_link_or_copy)
        else:
            _link_or_copy(item, copy)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turns the errors of a full or read-only disk into one line that names `path`, not a temporary file."""
    try:
        yield
    except Exception as error:
        reason = _disk_error(error)
        if reason is None:
            raise
        raise InputError(f"cannot write {path}: {reason}; choose another folder or free space") from error


def _disk_error(error: BaseException | None) -> str | None:
    """What the disk refused, in the system's words; None where the error is about something else."""
    if isinstance(error, InputError):
        return _disk_error(error.__cause__) if str(error).startswith("cannot write ") else None
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__name__ == "SafetensorError":  # its writer has errors of its own
        found = re.search(r'message: "([^"]+)"', str(error))
        return found[1] if found else str(error)
    return None
