"""Which files are checkpoints of one training run, by their names.

Networks of one run are near copies of each other and must not be split apart, while
those of a folder of independent networks must. Only names that say it join files.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_MARK = re.compile(
    r"(?<![a-z])(?:global[-_]?)?(?:checkpoint|chkpt|ckpt|epoch|ep|step|iteration|iter)s?"
    r"[-_=.]?([0-9]{1,18})(?![0-9])",
    re.IGNORECASE,
)
"""A word that says checkpoint, and its number."""

_METRIC = re.compile(
    r"(?:(?:train|val|valid|test)[-_]?)?(?:loss|acc|accuracy)[-_=]?[0-9]+\.[0-9]+",
    re.IGNORECASE,
)
"""How good a checkpoint is, in its name."""

_WHICH, _WHAT = "last|latest|best|final|init|initial", "model|checkpoint|ckpt|weights"
_WHOLE = re.compile(
    rf"(?:(?:{_WHAT}|{_WHICH})(?:[-_.]|$)){{1,2}}(?:v[0-9]+)?", re.IGNORECASE
)
_END = re.compile(rf"[-_.](?:{_WHICH})(?:[-_.]v[0-9]+)?$", re.IGNORECASE)
"""Names of a checkpoint without a number, if others beside it have one."""

_BETWEEN = "-_=. "


class Run(NamedTuple):
    """A network's place in its training.

    Attributes:
        name: of the run.
        step: number of the checkpoint, -1 if its name does not say.
    """

    name: str
    step: int


def runs_of(names: Sequence[str], alone: str) -> list[Run]:
    """Returns the runs of networks.

    Names are of one run if they differ only in the number of a checkpoint: behind
    `checkpoint`, `ckpt`, `epoch`, `step` or `iter` (`RUN/epoch_3`, `RUN_step-100`,
    `checkpoint-5/model`), or a part that is nothing but a number (`RUN_0/3/model`)
    where several stand side by side, in one at least of folders that differ only in
    numbers. `last`, `best` and `model` beside them are of the same run. Every other
    name is a run of its own.

    Args:
        names: paths below a folder, without suffix.
        alone: name of the run of networks whose name says nothing else.

    Example:
        >>> runs_of(["a/epoch_1", "a/epoch_2", "net_1"], "zoo")
        [Run(name='a', step=1), Run(name='a', step=2), Run(name='net_1', step=-1)]
    """
    numbered = _numbered(names)
    found: list[Run] = []
    for name in names:
        step, left = -1, []
        for at, part in enumerate(name.split("/")):
            if at == numbered.get(name):
                step = int(part)
                continue
            marks = _MARK.findall(part)
            if marks:
                step = int(marks[-1])
                part = _METRIC.sub("", _MARK.sub("", part)).strip(_BETWEEN)
            if part:
                left.append(part)
        found.append(Run(name if step < 0 else "/".join(left) or alone, step))
    known = {run.name for run in found if run.step >= 0}
    for at, name in enumerate(names):
        if found[at].step >= 0 or name in known:
            continue
        parts = [_END.sub("", part) for part in name.split("/")]
        whole = [part for part in name.split("/") if not _WHOLE.fullmatch(part)]
        for beside in ("/".join(parts), "/".join(whole) or alone):
            if beside in known:
                found[at] = Run(beside, -1)
    return found


def _numbered(names: Sequence[str]) -> dict[str, int]:
    """Places of the parts that number checkpoints, by name."""
    last: dict[str, int] = {}
    groups: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        places = [at for at, part in enumerate(parts) if at and part.isdecimal()]
        if places and len(parts[places[-1]]) <= 18:
            last[name] = places[-1]
            outer = "/".join(parts[: places[-1]])
            groups.setdefault(outer, set()).add(parts[places[-1]])
    alike: dict[tuple[str, str], list[int]] = {}
    for outer, numbers in groups.items():
        alike.setdefault(_kind(outer), []).append(len(numbers))
    runs = {kind for kind, n in alike.items() if len(n) > 1 and max(n) > 1}
    return {
        name: at
        for name, at in last.items()
        if _kind("/".join(name.split("/")[:at])) in runs
    }


def _kind(folder: str) -> tuple[str, str]:
    """The folder that a folder is in, and its own name without numbers."""
    outer, _, own = folder.rpartition("/")
    return outer, re.sub("[0-9]+", "#", own)
