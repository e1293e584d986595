"""What was derived in words: a row for each unit space, repeated blocks folded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qejax.derive._choose import Choice
from qejax.spaces import Shift, UnitSpace


@dataclass(frozen=True)
class Row:
    """One unit space, or one shift.

    Attributes:
        name: of the space or the shift.
        size: number of units; of scalars of a shift.
        group: that acts on them; "shift".
        per: the space along which elements differ, `None` for one element.
        moves: leaves and their axes, as `"dense/kernel[1]"`.
        limit: the operation that allows no more, as `"gelu at block.py:41"`; empty if
            nothing limits it.
    """

    name: str
    size: int
    group: str
    per: str | None
    moves: tuple[str, ...]
    limit: str

    @property
    def said(self) -> str:
        """The group and its limit, as `"permutation only: gelu at block.py:41"`."""
        return f"{self.group} only: {self.limit}" if self.limit else self.group


_LIMITS = {
    "general_linear": (),
    "linear_stream": (),
    "absorbed": (),
    "rotary": ("rotary",),
    "orthogonal": ("sizes",),
    "orthogonal_ones": ("ones", "sizes"),
    "positive_scale": ("signs", "matrices"),
    "sign": ("sizes", "matrices"),
    "dihedral": ("sizes", "matrices"),
    "permutation": ("sizes", "signs", "matrices"),
}
"""What a group has lost against larger ones, the reason to be named first."""


def space_row(space: UnitSpace, choice: Choice | None, moves: tuple[str, ...]) -> Row:
    """Returns the row of a unit space."""
    reasons = {} if choice is None else choice.units.reasons
    lost = [name for name in _LIMITS.get(space.group, ()) if name in reasons]
    limit = str(reasons[lost[0]]) if lost else ""
    return Row(space.name, space.size, space.group, space.per, moves, limit)


def shift_row(shift: Shift, size: int) -> Row:
    """Returns the row of a shift."""
    leaves = dict.fromkeys((shift.leaf, *(route.bias for route in shift.routes)))
    return Row(shift.name, size, "shift", None, tuple(leaves), "")


_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Fold:
    """Rows that differ in numbers of their names only.

    Attributes:
        name: with the range of numbers in place of one that differs.
        count: of rows.
        first: of them.
    """

    name: str
    count: int
    first: Row


def folded(rows: Sequence[Row]) -> list[Fold]:
    """Returns rows in order, those of repeated blocks as one.

    Example:
        >>> names = ("block_0.up", "block_1.up")
        >>> rows = [Row(name, 8, "permutation", None, (), "") for name in names]
        >>> [(fold.name, fold.count) for fold in folded(rows)]
        [('block_{0..1}.up', 2)]
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        host = None if row.per is None else _NUMBER.sub("#", row.per)
        key = (_NUMBER.sub("#", row.name), row.size, row.group, host, row.limit)
        groups.setdefault(key, []).append(row)
    return [
        Fold(_range([r.name for r in own]), len(own), own[0]) for own in groups.values()
    ]


def _range(names: Sequence[str]) -> str:
    """One name for several that differ in numbers."""
    if len(names) == 1:
        return names[0]
    columns = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    numbers = iter(columns)

    def number(match: re.Match[str]) -> str:
        own = next(numbers)
        if len(set(own)) == 1:
            return match.group(0)
        low, high = min(own, key=int), max(own, key=int)
        return f"{{{low}..{high}}}"

    return _NUMBER.sub(number, names[0])


def table(rows: Sequence[Row], width: int = 100) -> str:
    """Returns rows as lines of text, columns aligned, repeated blocks folded.

    Args:
        rows: of unit spaces and shifts.
        width: characters that a line has at most.
    """
    folds = folded(rows)
    names = {fold.first.name: fold.name for fold in folds}
    lines = [("unit space", "units", "group", "limited by", "moves")]
    for fold in folds:
        row = fold.first
        host = "" if row.per is None else f" per {_short(names.get(row.per, row.per))}"
        times = f" (x{fold.count})" if fold.count > 1 else ""
        units = f"{row.size}{host}"
        lines.append((fold.name + times, units, row.group, row.limit, _some(row.moves)))
    widths = [min(max(len(line[n]) for line in lines), _WIDEST[n]) for n in range(5)]
    text = []
    for line in lines:
        cells = [_fit(cell, w) for cell, w in zip(line, widths, strict=True)]
        text.append("  ".join(cells)[:width].rstrip())
    return "\n".join(text)


_WIDEST = (48, 14, 15, 30, 60)


def _fit(cell: str, width: int) -> str:
    """A cell as wide as its column, its middle left out if it is too long."""
    if len(cell) <= width:
        return cell.ljust(width)
    return f"{cell[: width - width // 2 - 2]}..{cell[-(width // 2) :]}"


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1] if "." in name else name


def _some(moves: Sequence[str]) -> str:
    if len(moves) <= 2:
        return ", ".join(moves)
    return f"{moves[0]}, ... ({len(moves)})"
