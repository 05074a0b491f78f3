"""Rows of parquet files. Needs the extra gen3r[data]."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gen3r.errors import InputError

if TYPE_CHECKING:
    import pyarrow


def read_rows(path: Path, columns: Sequence[str], where: Mapping[str, int]) -> "pyarrow.Table":
    """The columns of the rows whose keys have these values; groups of rows without any are not read.

    Raises:
        InputError: the file is missing or damaged, has no such column, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InputError("reading parquet needs an extra: pip install 'gen3r[data]'") from error
    try:
        filters = [(key, "=", value) for key, value in where.items()]
        return pyarrow.parquet.read_table(path, columns=list(columns), filters=filters)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are ValueErrors
        raise InputError(f"{path} cannot be read as Waymo's parquet ({error}); download it again") from error
