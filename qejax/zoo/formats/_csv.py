"""A comma-separated table as lines by column name, whole or an error."""

import csv
import gzip
import zlib
from pathlib import Path
from typing import IO

import numpy as np


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the names of the columns and the lines of a table, gzipped or not.

    Every line has every column, and every column has a name of its own.

    Args:
        path: of a UTF-8 table with a header; ending in `.gz` if it is gzipped.

    Raises:
        ValueError: if the file cannot be read, a column is there twice, or a line has
            more or fewer entries than the header; names file and row.
    """
    try:
        with _open(path) as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        kind = "a gzipped table" if path.suffix == ".gz" else "a table in UTF-8"
        raise ValueError(
            f"{path}: expected {kind}, got a file that cannot be read ({error}). Fetch "
            f"the file again."
        ) from error
    names, counts = np.unique(np.array(columns, str), return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{path}: columns should have different names, got "
            f"{names[counts > 1].tolist()} more than once."
        )
    for row, line in enumerate(lines):
        found = sum(v is not None for k, v in line.items() if k is not None)
        found += len(line.get(None) or ())  # DictReader's place for what is too much
        if found != len(columns):
            raise ValueError(
                f"{path}, row {row}: expected {len(columns)} entries, one for each "
                f"column, got {found}."
            )
    return columns, lines


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="", encoding="utf-8")
    return path.open(newline="", encoding="utf-8")
