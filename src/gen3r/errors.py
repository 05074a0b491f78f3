"""The one error that user input can raise, files that are missing or mere pointers, and how a lack of memory shows."""

import contextlib
from pathlib import Path

NO_MEMORY = "out of memory; try --memory low, fewer --frames, a smaller --size, --dtype bfloat16 or another --device"


class InputError(ValueError):
    """Input that Gen3R cannot use. The message is one line and says what to do; the CLI exits with code 2."""


def no_file(kind: str, path: Path) -> InputError:
    """The error of a file that is not there; the address of a page is none."""
    first = "; download it first" if str(path).startswith(("http:", "https:")) else ""
    return InputError(f"no {kind} at {path}{first}")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory, of this machine's or of an accelerator's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return not isinstance(error, InputError) and any(words in str(error) for words in _WORDS)


# Of torch, oneDNN, zstandard and the loader of libraries, without memory.
_WORDS = ("allocate memory", "could not create a primitive", "not enough memory", "failed to map segment")
_POINTER = b"version https://git-lfs"


def refuse_pointer(path: Path) -> None:
    """Refuses what a clone without Git LFS has in the place of a large file.

    Raises:
        InputError: it is such a text.
    """
    head = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(len(_POINTER))
    if head == _POINTER:
        raise InputError(f"{path} is a pointer of Git LFS, not the file itself; run git lfs pull")
