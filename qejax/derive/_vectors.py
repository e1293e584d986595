"""Independent factors of units, as sparse vectors over the places where units are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import lcm

from qejax.derive._forms import Form
from qejax.derive._ledger import Turn

Vector = dict[int, Fraction]
"""Powers by place, without zeros."""

Signs = frozenset[int]
"""Places that feel a sign."""

MOST_PAIRED = 24
"""Factors among whose sums and differences one is looked for that goes with a sign."""


class Span:
    """Vectors that are known to be combinations of others, over the rationals."""

    def __init__(self) -> None:
        self._rows: dict[int, Vector] = {}

    def add(self, vector: Mapping[int, Fraction | int]) -> bool:
        """Adds a vector; returns whether it is no combination of those before."""
        left = {k: Fraction(x) for k, x in vector.items() if x}
        while left:
            pivot = next((k for k in left if k in self._rows), None)
            if pivot is None:
                pivot = min(left)
                first = left[pivot]
                self._rows[pivot] = {k: x / first for k, x in left.items()}
                return True
            times = left[pivot]
            for k, x in self._rows[pivot].items():
                value = left.get(k, Fraction(0)) - times * x
                if value:
                    left[k] = value
                else:
                    left.pop(k, None)
        return False


class SignSpan:
    """Sets of places that are known to be sums of others, over GF(2)."""

    def __init__(self) -> None:
        self._rows: dict[int, Signs] = {}

    def add(self, signs: Iterable[int]) -> bool:
        """Adds a set; returns whether it is no sum of those before."""
        left = frozenset(signs)
        while left:
            pivot = next((k for k in left if k in self._rows), None)
            if pivot is None:
                self._rows[min(left)] = left
                return True
            left ^= self._rows[pivot]
        return False


@dataclass
class Dimensions:
    """Independent factors: sizes, signs, and what half periods of sines turn."""

    sizes: list[Vector]
    signs: list[Signs]
    turns: list[tuple[Turn, Signs]]


def dimensions(forms: Sequence[Form], turns: Sequence[Turn] = ()) -> Dimensions:
    """Returns the factors that forms are made of."""
    known = {turn.unknown: turn for turn in turns}
    sizes: dict[int, Vector] = {}
    signs: dict[int, set[int]] = {}
    for place, form in enumerate(forms):
        for v, power in form.size:
            sizes.setdefault(v, {})[place] = power
        for v in form.sign:
            signs.setdefault(v, set()).add(place)
    return Dimensions(
        [sizes[v] for v in sorted(sizes)],
        [frozenset(signs[v]) for v in sorted(signs) if v not in known],
        [(known[v], frozenset(signs[v])) for v in sorted(signs) if v in known],
    )


def paired(
    sizes: Sequence[Vector], signs: Sequence[Signs]
) -> tuple[list[dict[int, int]], list[dict[int, int]], list[Signs]]:
    """Returns factors of either sign, positive factors, and signs.

    A sign goes with a size if the size has powers of one, and none where the sign has
    none: both together are a number that is not zero. Sizes are combined where that
    makes one that fits.
    """
    both: list[Vector] = []
    alone: list[Signs] = []
    span = Span()
    plain = {
        frozenset(size): size
        for size in sizes
        if all(abs(power) == 1 for power in size.values())
    }
    for sign in signs:
        size = plain.get(sign)
        if size is not None and span.add(size):
            both.append(size)
        else:
            alone.append(sign)
    if alone:
        alone = _combined([s for s in sizes if s not in both], alone, span, both)
    positive = [_whole(size) for size in sizes if span.add(size)]
    return [_whole(size) for size in both], positive, alone


def _combined(
    sizes: Sequence[Vector], signs: Sequence[Signs], span: Span, both: list[Vector]
) -> list[Signs]:
    """Takes sums and differences of sizes for signs; returns the signs left."""
    candidates: dict[Signs, Vector] = {}
    for a, b in combinations(sizes[:MOST_PAIRED], 2):
        for times in (1, -1):
            total = {k: a.get(k, 0) + times * b.get(k, Fraction(0)) for k in {*a, *b}}
            size = {k: Fraction(x) for k, x in total.items() if x}
            if all(abs(x) == 1 for x in size.values()):
                candidates.setdefault(frozenset(size), size)
    left = []
    for sign in signs:
        size = candidates.get(sign)
        if size is not None and span.add(size):
            both.append(size)
        else:
            left.append(sign)
    return left


def _whole(size: Vector) -> dict[int, int]:
    scale = lcm(*(x.denominator for x in size.values()))
    return {place: int(x * scale) for place, x in size.items()}


def totals(
    row: Mapping[int, Fraction | int], keys: Sequence[int]
) -> dict[int, Fraction]:
    """Returns the power of one factor of all units, summed by key of the place."""
    total: dict[int, Fraction] = {}
    for place, power in row.items():
        key = keys[place]
        total[key] = total.get(key, Fraction(0)) + power
    return total


def odd(row: Iterable[int], keys: Sequence[int]) -> Signs:
    """Returns the keys of an odd number of places."""
    total: Signs = frozenset()
    for place in row:
        total ^= {keys[place]}
    return total
