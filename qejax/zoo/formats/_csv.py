"""A comma-separated table as lines by column name, whole or an error."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

MAX_BYTES, MAX_LINE = 1 << 28, 1 << 20
"""Characters of a table, unpacked, and of a line: a small archive may hold anything."""


class Table(Sequence[dict[str, str]]):
    """Lines by column name; in memory a text that comes often is there once.

    Args:
        names: of the columns.
        rows: their entries.
    """

    def __init__(self, names: list[str], rows: list[tuple[str, ...]]) -> None:
        self.names, self._rows = names, rows

    def __len__(self) -> int:
        """Returns the number of lines."""
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        """Returns one line as a dict, or some lines as a table."""
        if isinstance(row, slice):
            return Table(self.names, self._rows[row])
        return dict(zip(self.names, self._rows[row], strict=True))


def read_csv(path: Path) -> Table:
    """Returns a table, gzipped or not.

    Every line has every column, and every column has a name of its own.

    Args:
        path: of a UTF-8 table with a header; ending in `.gz` if it is gzipped.

    Raises:
        ValueError: if the file cannot be read or is larger than `MAX_BYTES`, a column
            is there twice, or a line has more or fewer entries than the header; names
            file and row.
    """
    known: dict[str, str] = {}
    rows: list[tuple[str, ...]] = []
    try:
        with _open(path) as file:
            lines = csv.reader(_bounded(path, file))
            names = next(lines, [])
            _check_names(path, names)
            for line in filter(None, lines):
                if len(line) != len(names):
                    raise ValueError(
                        f"{path}, row {len(rows)}: expected {len(names)} entries, one "
                        f"for each column, got {len(line)}."
                    )
                rows.append(tuple(known.setdefault(text, text) for text in line))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        kind = "a gzipped table" if path.suffix == ".gz" else "a table in UTF-8"
        raise ValueError(
            f"{path}: expected {kind}, got a file that cannot be read ({error}). Fetch "
            f"the file again."
        ) from error
    return Table(names, rows)


def _check_names(path: Path, columns: list[str]) -> None:
    names, counts = np.unique(np.array(columns, str), return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{path}: columns should have different names, got "
            f"{names[counts > 1].tolist()} more than once."
        )


def _bounded(path: Path, file: IO[str]) -> Iterator[str]:
    """Yields lines until there are too many: a small archive may unpack to anything."""
    left = MAX_BYTES
    while line := file.readline(MAX_LINE):
        left -= len(line)
        if left < 0 or len(line) == MAX_LINE:
            raise ValueError(
                f"{path}: expected a table of at most {MAX_BYTES >> 20} MiB, and of "
                f"{MAX_LINE >> 20} MiB a line, got more. Fetch the file again."
            )
        yield line


def column(texts: list[str]) -> np.ndarray:
    """Returns a column as float64 if every entry is a number, else as strings."""
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return np.array(texts)


def _open(path: Path) -> IO[str]:
    # Excel begins a table with a mark of the order of bytes: it is no part of a name.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="", encoding="utf-8-sig")
    return path.open(newline="", encoding="utf-8-sig")
