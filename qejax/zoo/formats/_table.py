"""`labels.csv`: what is known of the networks of a folder, a line each.

Column `file` is the path of a network below the folder, with or without its suffix.
`run` is the training run that it is a checkpoint of, `split` one of train, val and
test; both may be missing. Columns whose name ends in `accuracy` or `loss`, or is
`class` or `psnr`, are labels, all others say how networks were trained.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.zoo._listing import Listing, Problem
from qejax.zoo._splits import split_runs
from qejax.zoo._zoo import SPLITS
from qejax.zoo.files import FILES
from qejax.zoo.formats._csv import Table, column, read_csv
from qejax.zoo.formats._protocols import CLEAN, check_protocol

TABLE = "labels.csv"
FILE, RUN, SPLIT = "file", "run", "split"
STORED = "stored"
"""The protocol of a folder whose table has a column `split`."""

FOLDER = (CLEAN, STORED)
ENDS = ("accuracy", "loss")
LABELS = ("class", "psnr")


class Known(NamedTuple):
    """What the table says of the networks that are kept, row by row.

    Attributes:
        kept: places among the names that were asked for.
        runs: `[n]`.
        split: `[n]` codes, `None` if the table does not say.
        labels: by name, `[n]` float32.
        hyper: by name, `[n]`.
    """

    kept: list[int]
    runs: np.ndarray
    split: np.ndarray | None
    labels: dict[str, np.ndarray]
    hyper: dict[str, np.ndarray]


def is_label(name: str) -> bool:
    """Returns whether a column is a label."""
    return name.endswith(ENDS) or name in LABELS


def known_of(
    directory: Path, names: Sequence[str], runs: Sequence[str]
) -> tuple[Known, list[Problem]]:
    """Returns what the table says of networks, and those that it says nothing of.

    Args:
        directory: with the table; without one every network is kept.
        names: of the networks, paths without suffix.
        runs: of the networks, where the table does not say.

    Raises:
        ValueError: if the table cannot be read, has no column `file`, names a network
            twice, or has accuracies in percent.
    """
    path = directory / TABLE
    if not path.is_file():
        whole = list(range(len(names)))
        return Known(whole, np.array(runs, str), None, {}, {}), []
    table = read_csv(path)
    if FILE not in table.names:
        raise ValueError(
            f"{path}: expected a column {FILE!r} and others about the networks, got "
            f"{table.names}."
        )
    by_name: dict[str, dict[str, str]] = {}
    for row, line in enumerate(table):
        if by_name.setdefault(line[FILE], line) is not line:
            raise ValueError(
                f"{path}, row {row}: expected every network once, got {line[FILE]!r} a "
                f"second time."
            )
    _check_shares(path, table)
    kept: list[int] = []
    lines: list[dict[str, str]] = []
    problems: list[Problem] = []
    for place, name in enumerate(names):
        line = _line(by_name, name)
        why = "no line for it." if line is None else _wrong(line)
        if why:
            problems.append(Problem(name, f"{path}: {name!r} has {why}"))
            continue
        kept.append(place)
        lines.append(line or {})
    return _columns(table.names, lines, kept, [runs[at] for at in kept]), problems


def _check_shares(path: Path, table: Table) -> None:
    """Raises if accuracies seem to be in percent: those up to 1 would pass for shares.

    Raises:
        ValueError: names the column.
    """
    for name in table.names:
        if not name.endswith("accuracy"):
            continue
        numbers = column([line[name] or "nan" for line in table])
        beyond = (
            numbers[(numbers > 1) & (numbers <= 100)] if numbers.dtype == float else ()
        )
        if len(beyond):
            raise ValueError(
                f"{path}: column {name!r} should be shares from 0 to 1, got "
                f"{len(beyond)} beyond, up to {max(beyond):g}: percent? Divide the "
                f"column by 100, or rename it so that it is no label."
            )


def codes_of(
    directory: Path, known: Known, protocol: str | None, seed: int
) -> tuple[str, np.ndarray]:
    """Returns the protocol and the split of the networks that are kept, `[n]` codes.

    Runs of the whole folder are split together: one that has networks of several
    architectures is in one split as well.

    Args:
        directory: for the message.
        known: of the folder.
        protocol: of `FOLDER`; `None` is what the table says, or clean.
        seed: of a clean split.

    Raises:
        ValueError: if the protocol is unknown, or the table does not say.
    """
    if protocol is None:
        protocol = CLEAN if known.split is None else STORED
    check_protocol(directory, protocol, dict.fromkeys(FOLDER))
    if protocol == CLEAN:
        return protocol, split_runs(known.runs, seed)
    if known.split is None:
        raise ValueError(
            f"{directory}: protocol {STORED!r} needs a table {TABLE} with a column "
            f"{SPLIT!r}, got none such. Use protocol {CLEAN!r}."
        )
    return protocol, known.split


def _line(lines: Mapping[str, dict[str, str]], name: str) -> dict[str, str] | None:
    """The line of a network, whose name there may have a suffix."""
    if name in lines:
        return lines[name]
    ends = [key for key in (f"{name}{end}" for end in SUFFIXES) if key in lines]
    return lines[ends[0]] if ends else None


SUFFIXES = tuple(
    spelt
    for row in FILES.values()
    for end in row.suffixes
    for spelt in (end, end.upper())
)


LARGEST = float(np.finfo(np.float32).max)
"""Labels are stored in float32."""


def _wrong(line: dict[str, str]) -> str:
    """What is wrong with a line; nothing if it can be used."""
    if line.get(SPLIT, "train") not in SPLITS:
        return f"{SPLIT} {line[SPLIT]!r}, expected one of {list(SPLITS)}."
    for name, text in line.items():
        if not is_label(name):
            continue
        try:
            value = float(text)
        except ValueError:
            return f"{name} {text!r}, expected a number."
        share = name.endswith("accuracy")
        low, high = (0.0, 1.0) if share else (-LARGEST, LARGEST)
        if not low <= value <= high:
            return f"{name} {text}, expected a finite number up to {high:g}."
    return ""


def _columns(
    names: list[str], lines: list[dict[str, str]], kept: list[int], runs: list[str]
) -> Known:
    columns = {name: [line[name] for line in lines] for name in names}
    codes = [SPLITS[text] for text in columns.get(SPLIT, [])]
    others = [name for name in names if name not in (FILE, RUN, SPLIT, "")]
    return Known(
        kept,
        np.array(columns.get(RUN, runs), str),
        np.array(codes, np.int8) if SPLIT in columns else None,
        {
            name: np.array([float(text) for text in columns[name]], np.float32)
            for name in others
            if is_label(name)
        },
        {name: column(columns[name]) for name in others if not is_label(name)},
    )


def write_table(
    path: Path,
    listings: Mapping[str, Listing],
    prefix: bool,
    without: Sequence[str] = (),
) -> None:
    """Writes the table of some buckets.

    Args:
        path: of the table.
        listings: by bucket.
        prefix: whether names of networks begin with that of their bucket.
        without: columns that the files tell themselves.
    """
    taken = (FILE, RUN, SPLIT)
    names = list(
        dict.fromkeys(
            name
            for one in listings.values()
            for name in (*one.labels, *one.hyper)
            if name not in (*taken, *without)
        )
    )
    codes = {code: name for name, code in SPLITS.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*taken, *names])
        for bucket, one in listings.items():
            known = {**one.hyper, **one.labels}
            for at, name in enumerate(one.ids.tolist()):
                values = [known[key][at] if key in known else "" for key in names]
                place = f"{bucket}/{name}" if prefix else name
                split = codes[int(one.split[at])]
                writer.writerow([place, one.runs[at], split, *values])
