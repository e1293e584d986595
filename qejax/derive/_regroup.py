"""Axes of a reshape: which products of units become which."""

import math
from collections.abc import Sequence

from qejax.derive._ledger import Ledger
from qejax.derive._units import (
    Atom,
    Axis,
    Segment,
    atoms_of,
    fixed,
    length,
    merged,
    size_of,
)


def regrouped(
    ledger: Ledger, axes: Sequence[Axis], shape: Sequence[int]
) -> tuple[Axis, ...]:
    """Returns the axes of an array that is reshaped, row-major.

    Sets of units are split into products where the new shape splits them; where it
    cannot, they are fixed.
    """
    own = [ledger.normal(axis) for axis in axes]
    found: list[Axis] = []
    i = j = 0
    while i < len(own) or j < len(shape):
        taken, sizes = own[i : i + 1], list(shape[j : j + 1])
        i, j = i + 1, j + 1
        while math.prod(map(length, taken)) != math.prod(sizes):
            if math.prod(map(length, taken)) < math.prod(sizes):
                taken.append(own[i])
                i += 1
            else:
                sizes.append(shape[j])
                j += 1
        found += _group(ledger, taken, sizes)
    return tuple(found)


def _group(ledger: Ledger, taken: list[Axis], sizes: list[int]) -> list[Axis]:
    wide = [axis for axis in taken if length(axis) > 1]
    targets = [size for size in sizes if size > 1]
    if len(wide) == len(targets) == 1:
        new = wide
    elif not targets:
        new = []
    elif len(targets) == 1:
        new = [merged(ledger.product(wide))]
    else:
        new = _distributed(ledger, wide, targets)
    left = iter(new)
    return [next(left) if size > 1 else fixed(1) for size in sizes]


def _distributed(ledger: Ledger, wide: list[Axis], sizes: list[int]) -> list[Axis]:
    """The factors of some axes, dealt out to others."""
    while True:
        wide = [ledger.normal(axis) for axis in wide]
        if any(len(axis) > 1 for axis in wide):
            stacked = _unstacked(ledger, wide, sizes)
            if stacked is not None:
                return stacked
            wide = [_flat(ledger, axis) for axis in wide]
        (factors,) = merged([tuple(atom for axis in wide for atom in axis[0])])
        dealt = _deal(ledger, factors, sizes)
        if isinstance(dealt, list):
            return dealt
        if not dealt:
            for atom in factors:
                ledger.fix(atom)
            return [fixed(size) for size in sizes]


def _unstacked(ledger: Ledger, wide: list[Axis], sizes: list[int]) -> list[Axis] | None:
    """A sum of equal terms as an axis over the terms: all of them are made one."""
    count, inner = sizes[0], math.prod(sizes[1:])
    if len(wide) > 1 or count > MOST_TERMS:
        return None
    cut = ledger.cut_at(wide[0], range(inner, count * inner, inner))
    terms: list[list[Segment]] = [[] for _ in range(count)]
    start = 0
    for segment in cut:
        terms[start // inner].append(segment)
        start += size_of(segment)
    segments = []
    for columns in ledger.align([tuple(term) for term in terms]):
        atoms = []
        for column in columns:
            moved = [atom for atom in column if atom.units is not None]
            for atom in moved:
                if len(moved) < len(column):
                    ledger.fix(atom)
                ledger.unite(moved[0], atom)
                ledger.same(moved[0].form, atom.form, moved[0].units)
            atoms.append(moved[0] if moved else Atom(column[0].size))
        segments.append(tuple(atoms))
    return [fixed(count), *regrouped(ledger, [merged(segments)], sizes[1:])]


MOST_TERMS = 64
"""Terms of a sum that a reshape makes an axis of."""


def _flat(ledger: Ledger, axis: Axis) -> Axis:
    """An axis that is not a sum: one that was has nothing left that acts on it."""
    if len(axis) == 1:
        return axis
    for atom in atoms_of([axis]):
        ledger.fix(atom)
    return fixed(length(axis))


def _deal(ledger: Ledger, factors: Segment, sizes: Sequence[int]) -> list[Axis] | bool:
    """Axes of the sizes from factors.

    Returns:
        The axes; whether a set was split, after which to try again, if they do not fit.
    """
    rest = list(factors)
    axes: list[Axis] = []
    for size in sizes:
        own: list[Atom] = []
        while size > 1:
            atom = rest.pop(0)
            if size % atom.size == 0:
                own.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                pieces = ledger.split_factor(atom, atom.size // size)
                if len(pieces) == 1:
                    return True
                own.append(pieces[0])
                rest.insert(0, pieces[1])
                size = 1
            else:
                return False
        axes.append(merged([tuple(own)]))
    return axes
