"""Writing files and folders so that they are there whole or not at all."""

import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen3r.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows: processes are not told apart, and nothing of killed ones is removed
    fcntl = None

LARGEST_TEXT = 1 << 28  # bytes
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path of the same file name. The block writes it; when it ends well, it becomes `path`.

    The data is on the disk before the rename. After an error `path` is what it was. A link is followed. A device or a
    pipe, such as /dev/stdout, receives the data.

    Raises:
        InputError: `path` is a folder, or the disk refuses it.
    """
    path = Path(path)
    with _write_errors(path):
        if path.is_dir():
            raise InputError(f"{path} is a folder; choose a file")
        device = path.exists() and not path.is_file()
        path = path if device else path.resolve()
        with _new_parents(path.parent), _hidden_folder(tempfile.gettempdir() if device else path.parent, path) as place:
            partial = place / path.name
            partial.touch()
            mode = partial.stat().st_mode  # as the person wants it; safetensors replaces the file by a private one
            yield partial
            if device:
                path.write_bytes(partial.read_bytes())
                return
            partial.chmod(mode)
            _flush(partial)
            os.replace(partial, path)


def check_file(path: str | Path) -> None:
    """Refuses a file that `whole_file` could not write, before any work. Nothing of the trial stays.

    Raises:
        InputError: as `whole_file`.
    """

    class _TriedError(Exception):
        pass

    with contextlib.suppress(_TriedError), whole_file(path):
        raise _TriedError


@contextmanager
def whole_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder. The block fills it; when the block ends well, it becomes `path`.

    overwrite: `path` may hold files. Those that the block did not write are kept. At every moment `path` is the old
    folder or the new one, unless it cannot be renamed: a mount point, a folder in which this process works, or one in a
    folder that cannot be written to. Its files are then replaced one by one, each whole.

    Raises:
        InputError: `path` holds something (without `overwrite`), or the disk refuses it.
    """
    with _write_errors(Path(path)), _place_of(Path(path), overwrite) as (path, place):
        partial = place / "new"
        partial.mkdir()
        yield partial
        for file in partial.rglob("*"):
            if file.suffix == ".safetensors":  # written by its library, readable by the owner alone
                file.chmod(partial.stat().st_mode & 0o666)
            _flush(file)
        _check_free(path, overwrite)  # another process may have written it meanwhile
        if not path.exists():
            os.rename(partial, path)
            return
        if place.parent != path:
            with contextlib.suppress(OSError):  # a folder of a container's image, or one that is mounted
                _replace_folder(path, partial)
                return
        _move_files(partial, path)


@contextmanager
def reserved_folder(path: str | Path, overwrite: bool = False) -> Iterator[None]:
    """Keeps a folder's name for this process until the block ends, for a `whole_folder` at the end of long work.

    First it does what `whole_folder` will do: it makes the folder's parents, writes a file of a megabyte, and renames.
    Nothing of that stays.

    Raises:
        InputError: as `whole_folder`; or another process keeps the name.
    """
    with contextlib.ExitStack() as stack:
        with _write_errors(Path(path)):
            path, place = stack.enter_context(_place_of(Path(path), overwrite, alone=True))
            trial = place / "trial"
            trial.mkdir()
            (trial / "file").write_bytes(bytes(1 << 20))
            _flush(trial / "file")
            if not path.exists():
                os.rename(trial, path)
                os.rename(path, trial)
            shutil.rmtree(trial)
        yield


@contextmanager
def exclusive_folder(folder: str | Path) -> Iterator[None]:
    """Makes a folder that is filled file by file, and keeps it for this process until the block ends.

    Raises:
        InputError: it cannot be written to, or another process keeps it.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        with _write_errors(folder):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{folder} is a file; choose a folder")
            stack.enter_context(_new_parents(folder))
            with _hidden_folder(folder, folder):
                pass
            try:
                lock = _lock(folder)
            except BlockingIOError:
                raise InputError(f"another process is writing in {folder}; wait for it, or choose another") from None
            if lock is not None:
                stack.callback(os.close, lock)
        yield


def check_folder(path: Path, overwrite: bool = False) -> None:
    """Refuses a target folder that holds something or cannot be written, before any work. Nothing of the trial stays.

    Raises:
        InputError: says which, and what to do.
    """
    with reserved_folder(path, overwrite):
        pass


def _check_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose a folder")
    if path.is_dir() and not overwrite and any(p not in _taken(path) for p in path.iterdir()):
        raise InputError(f"{path} is not empty; choose another folder or add --overwrite")
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file; choose another folder")


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
    """Writes a UTF-8 text file, whole or not at all. Errors as `whole_file`.

    Bytes of file names that are not UTF-8 become escapes (in JSON, those of the same text).
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_text(path: Path, kind: str = "file") -> str:
    """The text of a UTF-8 file, without its byte-order mark. kind: what an error calls it.

    Raises:
        InputError: it is missing, no regular file, larger than 256 MB, unreadable or no text.
    """
    try:
        status = path.stat()
        usable = stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_TEXT
        text = path.read_text(encoding="utf-8-sig") if usable else ""
    except FileNotFoundError as error:
        raise InputError(f"no {kind} at {path}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a {kind}: it is no text ({error}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}; change its name or its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is a folder, pipe or device; give a {kind}")
    if not usable:
        raise InputError(f"{path} has {status.st_size >> 20} MB, too much for a {kind}; export it again")
    return text


def parse_json(text: str, path: Path) -> Any:
    """What a JSON file's text holds.

    Raises:
        InputError: it is not whole, nested too deep, or holds an integer too long to be one.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not whole JSON (line {error.lineno}); export it again") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path} holds no usable JSON ({str(error).split(':')[0]}); export it again") from error


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_partial(folder: Path) -> None:
    """Removes what processes that died left half-written in a folder."""
    for path in folder.glob(".*.partial"):
        _removed_dead(path)


def disk_error(error: BaseException | None) -> str | None:
    """What the disk refused, in the system's words; None where the error is about something else."""
    if isinstance(error, InputError):
        return disk_error(error.__cause__) if str(error).startswith("cannot write ") else None
    if isinstance(error, OSError) or (isinstance(error, RuntimeError) and "Symlink loop" in str(error)):
        return getattr(error, "strerror", None) or str(error)
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


@contextmanager
def _place_of(path: Path, overwrite: bool, alone: bool = False) -> Iterator[tuple[Path, Path]]:
    """The absolute `path`, and a hidden folder to prepare it in: beside it, or in it where that cannot be.

    alone: no other process may have one.
    """
    path = path.resolve()
    _check_free(path, overwrite)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_new_parents(path.parent))
        inside = path.is_dir() and (path.is_mount() or Path.cwd().is_relative_to(path))
        try:
            place = stack.enter_context(_hidden_folder(path if inside else path.parent, path, alone))
        except OSError:  # the parent cannot be written to
            if inside or not path.is_dir():
                raise
            place = stack.enter_context(_hidden_folder(path, path, alone))
        yield path, place


@contextmanager
def _new_parents(folder: Path) -> Iterator[None]:
    """Makes a folder and its parents. Those that were new and are empty in the end are removed."""
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


@contextmanager
def _hidden_folder(folder: str | Path, target: Path, alone: bool = False) -> Iterator[Path]:
    """A new hidden folder in `folder`, named after `target`, locked while this process lives, and removed at the end.

    Those that killed processes left for the same target are removed. alone: no living process may have one already.
    """
    hidden, lock = _new_hidden_folder(folder, target)
    try:
        own = False
        for path in itertools.takewhile(Path.exists, _hidden_names(folder, target)):
            own = own or path == hidden
            if path != hidden and not _removed_dead(path) and alone and not own:
                raise InputError(f"another process is writing {target}; wait for it, or choose another folder")
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _hidden_names(folder: str | Path, target: Path) -> Iterator[Path]:
    """The names of hidden folders for `target`, of which each process takes the first that is free."""
    stem = target.name
    while len(os.fsencode(stem)) > 200:  # the name may be as long as names can be
        stem = stem[:-1]
    return (Path(folder) / f".{stem}-{number}.partial" for number in itertools.count())


def _new_hidden_folder(folder: str | Path, target: Path) -> tuple[Path, int | None]:
    """The folder, and the handle of its lock."""
    for hidden in _hidden_names(folder, target):
        try:
            hidden.mkdir()
        except FileExistsError:
            continue
        with contextlib.suppress(BlockingIOError, FileNotFoundError):  # taken for a dead one before it was locked
            lock = _lock(hidden)
            if hidden.is_dir():
                return hidden, lock
    raise AssertionError("names do not end")


def _taken(path: Path) -> list[Path]:
    """The hidden folders in `path` in which it is being prepared."""
    return list(itertools.takewhile(Path.exists, _hidden_names(path, path)))


def _removed_dead(hidden: Path) -> bool:
    """Removes a hidden folder unless a living process has it. False: one has."""
    try:
        lock = _lock(hidden)
    except BlockingIOError:
        return False
    except OSError:  # it has just been removed
        return True
    if lock is not None:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(lock)
    return True


def _lock(folder: Path) -> int | None:
    """A handle that locks a folder until it is closed or the process ends; None where the file system has no locks.

    Raises:
        BlockingIOError: another process has the lock.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return handle


def _move_files(source: Path, target: Path) -> None:
    """Moves what is in `source` into `target`, one by one, in the place of what has the same name there."""
    for item in source.iterdir():
        old = target / item.name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        with _hidden_folder(target, old) as place:  # a mounted target is another disk
            os.replace(shutil.move(item, place / item.name), old)


def _replace_folder(path: Path, new: Path) -> None:
    """Puts `new` in the place of the folder `path`, whose other files it takes over."""
    _add_missing(path, new)
    shutil.copymode(path, new)
    exchange_folders(path, new)


def exchange_folders(path: Path, other: Path) -> None:
    """Exchanges two folders at once where the system can (Linux), else by renames that are undone if one fails."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if swap and swap(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    old = path.with_name(f".old-{secrets.token_hex(4)}")
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
