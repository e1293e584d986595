"""The files of a CNN Wild Park directory: checkpoints of runs, and their splits.

Checkpoints are `<zoo>/<run>/checkpoint_<number>/checkpoint.pt`, and a split file is
`{split: {"path": [...], "score": [...], "step": [...]}}`. Its paths are of another
machine: only their last three parts count. No checkpoint is opened here.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qejax.zoo.formats._json import read_json

NAME = "checkpoint.pt"
MAX_SPLIT = 256 * 2**20  # bytes; 150 a checkpoint

_FOLDER = re.compile("checkpoint_([0-9]{1,9})")


class Checkpoint(NamedTuple):
    """One network of a run.

    Attributes:
        path: of the file.
        run: of which training; all of a run belong to one split.
        number: of the checkpoint in its run.
    """

    path: Path
    run: str
    number: int


class Member(NamedTuple):
    """A checkpoint in a split file.

    Attributes:
        checkpoint: which.
        split: its name there.
        score: accuracy on the test images, in [0, 1].
        step: the epoch.
    """

    checkpoint: Checkpoint
    split: str
    score: float
    step: int


def find_checkpoints(directory: Path) -> list[Checkpoint]:
    """Returns all checkpoints below a directory, by run and number. Follows no links.

    Raises:
        ValueError: if there are none, or two of a run and number.
    """
    found: dict[tuple[str, int], Checkpoint] = {}
    for root, folders, files in os.walk(directory):
        folders.sort()
        folder = Path(root)
        number = _FOLDER.fullmatch(folder.name)
        path = folder / NAME
        if number is None or NAME not in files or path.is_symlink():
            continue
        entry = Checkpoint(path, folder.parent.name, int(number[1]))
        first = found.setdefault((entry.run, entry.number), entry)
        if first is not entry:
            raise ValueError(
                f"{path}: expected one checkpoint {entry.number} of run "
                f"{entry.run!r}, got {first.path} as well. Remove one."
            )
    if not found:
        raise ValueError(
            f"{directory}: expected <zoo>/<run>/checkpoint_<number>/{NAME}, as a CNN "
            f"Wild Park has them, found none. Check the path."
        )
    return [found[key] for key in sorted(found)]


def read_split(path: Path, checkpoints: list[Checkpoint]) -> list[Member]:
    """Returns the checkpoints that a split file names, in its order.

    Raises:
        ValueError: if the file is damaged, names a checkpoint that is not among these
            or names one twice, or has a run in two splits.
    """
    known = {_key(entry.path): entry for entry in checkpoints}
    members: list[Member] = []
    taken: dict[Path, str] = {}
    splits: dict[str, str] = {}
    for split, columns in read_json(path, MAX_SPLIT).items():
        for row, (name, score, step) in enumerate(_rows(path, split, columns)):
            where = f"{path}: {split}, entry {row}"
            entry = known.get(_key(PurePosixPath(name)))
            if entry is None:
                raise ValueError(
                    f"{where}: expected the path of a checkpoint that is there, got "
                    f"{name[-120:]!r}. Fetch the zoo again, or its split file."
                )
            if entry.path in taken or splits.setdefault(entry.run, split) != split:
                raise ValueError(
                    f"{where}: expected every checkpoint once and every run in one "
                    f"split, got {name[-120:]!r}, of a run that is in "
                    f"{splits.get(entry.run)!r}. Use the published split file."
                )
            taken[entry.path] = split
            members.append(Member(entry, split, float(score), step))
    return members


def _key(path: Path | PurePosixPath) -> tuple[str, ...]:
    return path.parts[-3:]


def _rows(path: Path, split: str, columns: Any) -> list[tuple[str, float, int]]:
    """The entries of one split, of the types that they should have."""
    kinds: dict[str, tuple[type, ...]] = {
        "path": (str,),
        "score": (float, int),
        "step": (int,),
    }
    found = [columns.get(name) if type(columns) is dict else None for name in kinds]
    lists = [column for column in found if type(column) is list]
    if len(lists) != len(kinds) or len({len(column) for column in lists}) != 1:
        raise ValueError(
            f"{path}: {split} should have lists {list(kinds)} of one length, got "
            f"{[len(column) for column in lists]} entries. Fetch the file again."
        )
    rows = list(zip(*lists, strict=True))
    for number, row in enumerate(rows):
        good = [type(x) in kinds[name] for name, x in zip(kinds, row, strict=True)]
        if not all(good) or not 0 <= row[1] <= 1:
            raise ValueError(
                f"{path}: {split}, entry {number} should be a path, a score in [0, 1] "
                f"and a step, got {str(row)[:200]}. Fetch the file again."
            )
    return rows
