"""Writing files and folders so that they are there whole or not at all."""

import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix. The block writes it; when it ends well, it becomes `path`.

    The data is on the disk before the rename. After an error `path` is what it was.

    Raises:
        InputError: the folder cannot be written to, or is full.
    """
    path = Path(path)
    partial = _hidden(path.parent, path.stem, path.suffix)
    with _write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
            mode = partial.stat().st_mode  # as the person wants it; safetensors replaces the file by a private one
            yield partial
            partial.chmod(mode)
            _flush(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder. The block fills it; when the block ends well, it becomes `path`.

    overwrite: `path` may hold files. Those that the block did not write are kept. At every moment `path` is the old
    folder or the new one, unless it cannot be renamed: a mount point, a folder in which this process works, or one in a
    folder that cannot be written to. Its files are then replaced one by one, each whole.

    Raises:
        InputError: `path` holds something (without `overwrite`), cannot be written to, or the disk is full.
    """
    path = Path(path).resolve()
    check_folder(path, overwrite)
    in_place = path.is_dir() and (
        path.is_mount() or Path.cwd().is_relative_to(path) or not os.access(path.parent, os.W_OK | os.X_OK)
    )
    partial = _hidden(path if in_place else path.parent, path.name)
    with _write_errors(path):
        try:
            partial.mkdir(parents=True)
            yield partial
            for file in partial.rglob("*"):
                if file.suffix == ".safetensors":  # written by its library, readable by the owner alone
                    file.chmod(partial.stat().st_mode & 0o666)
                _flush(file)
            if in_place:
                _move_files(partial, path)
            elif path.exists():
                _add_missing(path, partial)
                shutil.copymode(path, partial)
                exchange_folders(path, partial)
            else:
                os.rename(partial, path)
        finally:
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
    """Writes a safetensors file, whole or not at all; the same content gives the same bytes. Errors as `whole_file`."""
    from safetensors.torch import save_file

    with whole_file(path) as partial:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        _sort_header(partial)


def _sort_header(path: Path) -> None:
    """Sorts the header of a safetensors file, whose library writes the metadata in a random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.dumps(json.loads(file.read(size)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        header = header.encode().ljust(size)
        assert len(header) == size
        file.seek(8)
        file.write(header)


def write_text(text: str, path: str | Path) -> None:
    """Writes a UTF-8 text file, whole or not at all. Errors as `whole_file`."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a folder, which is made if need be, for this process alone. A process that died holds nothing.

    Raises:
        InputError: another process has it, or it cannot be written to.
    """
    import fcntl

    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process works in {folder}; wait for it, or choose another folder") from error
        yield


def remove_partial(folder: Path) -> None:
    """Removes what a process that died left half-written in a folder, whose lock the caller holds."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..*-[0-9a-f]{8}(\.\w+)?", path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def disk_error(error: BaseException | None) -> str | None:
    """What the disk refused, in the system's words; None where the error is about something else."""
    if isinstance(error, InputError):
        return disk_error(error.__cause__) if str(error).startswith("cannot write ") else None
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__name__ == "SafetensorError":  # its writer has errors of its own
        found = re.search(r'(?:message: "|I/O error: )([^"(]+)', str(error))
        return found[1].strip() if found else str(error)
    return None


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


def _hidden(folder: Path, name: str, suffix: str = "") -> Path:
    """A path in `folder` that nothing has: hidden, with a name that tells what it will become."""
    return folder / f".{name}-{secrets.token_hex(4)}{suffix}"


def _move_files(source: Path, target: Path) -> None:
    """Moves what is in `source` into `target`, one by one, in the place of what has the same name there."""
    for item in source.iterdir():
        old = target / item.name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        os.replace(item, old)


def exchange_folders(path: Path, other: Path) -> None:
    """Exchanges two folders at once where the system can (Linux), else by renames that are undone if one fails."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if swap and swap(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    old = _hidden(path.parent, path.name)
    os.rename(path, old)
    try:
        os.rename(other, path)
    except OSError:
        os.rename(old, path)
        raise
    os.rename(old, other)


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
        reason = disk_error(error)
        if reason is None:
            raise
        raise InputError(f"cannot write {path}: {reason}; choose another folder or free space") from error
