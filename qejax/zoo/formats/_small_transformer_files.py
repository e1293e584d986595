"""The files of a Small Transformer Zoo directory, read and checked against each other.

See `_small_transformer_zoo` for what they hold. Nothing that is read is executed.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from qejax.zoo._listing import Problem
from qejax.zoo.formats._csv import read_csv

FOLDER, TABLE = "mnist", "metadata/mnist.csv"
FILE, EPOCH, ACCURACY = "ckpt_file", "ckpt_epoch", "test_top1_accuracy"
SIZES = (
    "image_size",
    "patch_size",
    "n_channels",
    "n_classes",
    "embed_dim",
    "n_attention_heads",
    "forward_mul",
    "n_layers",
)
"""Columns that say which architecture a network has."""

POSITIONS, POSITION_ERROR = "embedding.pos_embedding", 1e-5
"""A table that is not trained, and how far it may be from ours: it is in float32."""

_NAME = re.compile(r"([0-9a-z]+)_([0-9a-z]+)_([0-9]{1,5})\.pt")


class Run(NamedTuple):
    """One checkpoint: one line of the table."""

    row: int
    name: str
    path: Path
    accuracy: float
    line: dict[str, str]


def open_runs(directory: Path, epoch: str) -> tuple[list[Run], list[Problem]]:
    """Returns the checkpoints of one epoch in the order of the table, one a run.

    Lines that cannot be used come apart, with what is wrong with them.

    Raises:
        FileNotFoundError: if the table is missing; names it.
        ValueError: if the table cannot be read, a column is missing, or no line of
            such an epoch can be used; names row and column, expected and found.
    """
    path = directory / TABLE
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory}: a Small Transformer Zoo has a table {TABLE} and checkpoints "
            f"in {FOLDER}; found no table."
        )
    lines = read_csv(path)
    missing = [
        name for name in (FILE, EPOCH, ACCURACY, *SIZES) if name not in lines.names
    ]
    if missing:
        raise ValueError(
            f"{path}: expected columns {missing} as well, got {lines.names}."
        )
    runs: list[Run] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for row, line in enumerate(lines):
        if line[EPOCH] != epoch:
            continue
        try:
            run = _run(directory, row, line)
            if seen.setdefault(run.name, row) != row:
                raise ValueError(
                    f"{path}, row {row}: run {run.name!r} has two checkpoints of epoch "
                    f"{epoch!r}, the first in row {seen[run.name]}; expected one."
                )
            runs.append(run)
        except ValueError as error:
            problems.append(Problem(f"row {row}", str(error)))
    if not runs and problems:
        raise ValueError(f"{problems[0].why} No other line can be used.")
    if not runs:
        raise ValueError(
            f"{path}: no checkpoint has {EPOCH} {epoch!r}; there are "
            f"{sorted({line[EPOCH] for line in lines})}."
        )
    return runs, problems


def _run(directory: Path, row: int, line: dict[str, str]) -> Run:
    where = f"{directory / TABLE}, row {row}"
    # Never a path out of the folder: only the last part of what is there counts.
    file = PurePosixPath(line[FILE]).name
    found = _NAME.fullmatch(file)
    if not found or found[2] != line[EPOCH]:
        raise ValueError(
            f"{where}: {FILE} should be 'RUN_{line[EPOCH]}_ACCURACY.pt', got "
            f"{line[FILE]!r}."
        )
    accuracy = number(where, ACCURACY, line[ACCURACY])
    if not 0 <= accuracy <= 1:
        raise ValueError(f"{where}: {ACCURACY} should be in [0, 1], got {accuracy}.")
    if abs(1e4 * accuracy - int(found[3])) > 1.01:
        raise ValueError(
            f"{where}: {ACCURACY} should be that of the file name {file!r} in parts of "
            f"10,000, got {accuracy}. The table is of other files."
        )
    return Run(row, found[1], directory / FOLDER / file, accuracy, line)


def number(where: str, name: str, text: str) -> float:
    """Returns an entry of a table as a number.

    Raises:
        ValueError: if it is none.
    """
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"{where}: column {name} should hold numbers, got {text!r}."
        ) from error


def sizes(
    directory: Path, runs: list[Run]
) -> tuple[dict[str, int], list[Run], list[Problem]]:
    """Returns the most frequent architecture, its runs, and what is wrong with others.

    Raises:
        ValueError: if no line gives an architecture.
    """
    counts: Counter[tuple[int, ...]] = Counter()
    own: list[tuple[int, ...] | None] = []
    problems: list[Problem] = []
    for run in runs:
        try:
            own.append(_sizes(directory, run))
            counts[own[-1] or ()] += 1
        except ValueError as error:
            own.append(None)
            problems.append(Problem(run.name, str(error)))
    if not counts:
        raise ValueError(f"{problems[0].why} No other line can be used.")
    ((usual, _),) = counts.most_common(1)
    for run, found in zip(runs, own, strict=True):
        if found not in (usual, None):
            at = next(k for k, one in enumerate(found or ()) if one != usual[k])
            problems.append(
                Problem(
                    run.name,
                    f"{directory / TABLE}, row {run.row}: all networks of an epoch "
                    f"should have one architecture, {SIZES[at]} {usual[at]} as most "
                    f"have, got {(found or ())[at]}.",
                )
            )
    kept = [run for run, found in zip(runs, own, strict=True) if found == usual]
    return dict(zip(SIZES, usual, strict=True)), kept, problems


def _sizes(directory: Path, run: Run) -> tuple[int, ...]:
    where = f"{directory / TABLE}, row {run.row}"
    found = []
    for name in SIZES:
        size = number(where, name, run.line[name])
        if not size.is_integer() or size < 1:
            raise ValueError(
                f"{where}: {name} should be a whole number from 1, got "
                f"{run.line[name]!r}."
            )
        found.append(int(size))
    return tuple(found)


def check_tensors(
    path: Path, state: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Raises unless a checkpoint has these tensors, of finite numbers.

    Raises:
        ValueError: names the file and the tensor, expected and found.
    """
    for name in {**shapes, **state}:
        if name not in state or name not in shapes:
            problem = "none" if name in shapes else "a further one"
            raise ValueError(
                f"{path}: expected the tensors {sorted(shapes)}, got {problem} called "
                f"{name!r}."
            )
        array = state[name]
        if array.shape != shapes[name] or array.dtype.kind != "f":
            raise ValueError(
                f"{path}: {name} should be floating numbers of shape {shapes[name]}, "
                f"got {array.dtype} of shape {array.shape}."
            )
        with np.errstate(over="ignore"):  # beyond float32 is not finite
            bad = np.count_nonzero(~np.isfinite(array.astype(np.float32)))
        if bad:
            raise ValueError(
                f"{path}: {name} should be finite in float32, got {bad} values that "
                f"are not."
            )


def check_positions(path: Path, found: np.ndarray, expected: np.ndarray) -> None:
    """Raises unless the table of positions is the one that our networks add.

    Raises:
        ValueError: names the file, and by how much the table is another one.
    """
    gap = float(np.abs(found - expected).max())
    if not gap <= POSITION_ERROR:
        raise ValueError(
            f"{path}: {POSITIONS} should be the sines and cosines of the public zoo to "
            f"{POSITION_ERROR:g}, got a table that is {gap:.2g} away from them."
        )
