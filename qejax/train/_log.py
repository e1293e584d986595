"""A log of one JSON object a line, cut back to the step that a run goes on from."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qejax._disk import room
from qejax._processes import on_first
from qejax.train._config import replace_text

Row = dict[str, Any]
"""One evaluation; its fields are listed at the top of `_loop.py`."""


class Log:
    """The rows of a run, in memory and, with a path, in a file.

    Every row has an integer "step". A row reaches the file before `append` returns,
    so only a row that was being written can be lost or torn. A full disk is a
    `DiskFullError`. Of many processes the first one reads and writes the file; all
    have the rows.
    """

    def __init__(self, path: Path | None, resume_step: int | None) -> None:
        """Opens the log.

        Args:
            path: the file, or None to keep rows in memory only.
            resume_step: rows up to this step are kept, later ones dropped from the
                file; None begins a new log.

        Raises:
            ValueError: if a kept line is not a JSON object with a step.
        """
        self._path = path
        self.rows: list[Row] = []
        if path is None:
            return

        def opened() -> list[Row]:
            old = resume_step is not None and path.exists()
            rows = _read(path, resume_step or 0) if old else []
            replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))
            return rows

        self.rows = on_first(opened)

    def append(self, row: Row) -> None:
        """Adds a row; numbers that JSON does not have (nan, infinity) become null."""
        clean = _jsonable(row)
        self.rows.append(clean)
        path = self._path
        if path is None:
            return

        def write() -> None:
            with room(path), path.open("a") as file:
                file.write(json.dumps(clean, allow_nan=False) + "\n")

        on_first(write)


def _read(path: Path, resume_step: int) -> list[Row]:
    """Returns the rows of a file up to a step; a torn last line is dropped."""
    rows: list[Row] = []
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as err:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with a step, got "
                f"{line.strip()[:40]!r}. Delete the line to go on without it."
            ) from err
        if step > resume_step:
            break
        rows.append(row)
    return rows


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
