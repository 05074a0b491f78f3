"""Text files of datasets."""

from pathlib import Path

import numpy as np

from gen3r.errors import InputError
from gen3r.files import read_text


def text_lines(path: Path) -> list[str]:
    """The lines of a text file. Errors as `gen3r.files.read_text`."""
    return read_text(path, "text file").splitlines()


def number_table(path: Path, columns: int, skip_lines: int = 0) -> np.ndarray:
    """The numbers float64 [rows, columns] of a text file, one row per line.

    Raises:
        InputError: it is missing, empty, or a line has another count of numbers.
    """
    rows = []
    for number, line in enumerate(text_lines(path)[skip_lines:], start=skip_lines + 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        try:
            values = [float(x) for x in fields]
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if len(values) != columns:
            raise InputError(f"{path}, line {number} has {len(values)} numbers instead of {columns}")
        rows.append(values)
    if not rows:
        raise InputError(f"{path} is empty; download it again")
    return np.asarray(rows)
