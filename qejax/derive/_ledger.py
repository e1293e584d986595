"""Axes side by side: cut and split until the same indices stand beside each other."""

import itertools
from collections.abc import Iterable, Sequence

from qejax.derive._sets import Node, Sets, Turn
from qejax.derive._units import Atom, Axis, Segment, atoms_of, size_of

Column = tuple[Atom, ...]
"""One atom of every operand, all of the same indices."""


class Ledger(Sets):
    """The state of one derivation, with axes of several operands aligned."""

    def _divide_segment(self, segment: Segment, at: int) -> list[Segment]:
        """Cuts a segment in two behind `at` indices."""
        head, *rest = segment
        inner = size_of(rest)
        if at % inner:
            for atom in segment:
                self.fix(atom)
            total = size_of(segment)
            return [(Atom(at),), (Atom(total - at),)]
        if head.units is not None:
            self.divide(head.units, at // inner, stacked=True)
            return [segment]
        sizes = (at // inner, head.size - at // inner)
        return [(Atom(size, constant=head.constant), *rest) for size in sizes]

    def cut_at(self, axis: Axis, bounds: Iterable[int]) -> Axis:
        """Returns the axis with a boundary between segments at each of `bounds`."""
        axis = self.normal(axis)
        for bound in sorted(bounds):
            while True:
                start, missing = 0, None
                for number, segment in enumerate(axis):
                    if start < bound < start + size_of(segment):
                        missing = number
                        break
                    start += size_of(segment)
                if missing is None:
                    break
                pieces = self._divide_segment(axis[missing], bound - start)
                found: list[Segment] = []
                for number, segment in enumerate(axis):
                    own = pieces if number == missing else [segment]
                    for one in own:
                        found += self.product([self._expanded(atom) for atom in one])
                axis = tuple(self.cleaned(found))
        return axis

    def split_factor(self, atom: Atom, inner: int) -> list[Atom]:
        """Splits an atom into a product whose last factor has `inner` indices."""
        outer = atom.size // inner
        if atom.units is None:
            return [Atom(n, constant=atom.constant) for n in (outer, inner)]
        self.divide(atom.units, outer, stacked=False)
        return [atom]

    def align(self, axes: Sequence[Axis]) -> list[list[Column]]:
        """Returns segments of columns: the same indices of every operand side by side.

        All axes have the same length. What cannot be cut so is fixed.
        """
        own = [self.normal(axis) for axis in axes]
        while True:
            bounds = {b for axis in own for b in _bounds(axis)}
            own = [self.cut_at(axis, bounds) for axis in own]
            # Cutting one operand may have cut a set that others hold as well.
            if any({*_bounds(self.cut_at(axis, ()))} - bounds for axis in own):
                own = [self.cut_at(axis, bounds) for axis in own]
                continue
            refined = self._refined(own)
            if refined is not None:
                return refined

    def _refined(self, axes: list[Axis]) -> list[list[Column]] | None:
        """Columns, if the factors of all operands are the same; else splits one."""
        result = []
        for number in range(len(axes[0])):
            segments = [axis[number] for axis in axes]
            suffixes = sorted({s for segment in segments for s in _suffixes(segment)})
            if any(b % a for a, b in itertools.pairwise(suffixes)):
                for segment in segments:
                    for atom in segment:
                        self.fix(atom)
                flat = [
                    Atom(size_of(s), constant=all(a.constant for a in s))
                    for s in segments
                ]
                result.append([tuple(flat)])
                continue
            rows = []
            for segment in segments:
                atoms, changed = self._split_at(segment, suffixes)
                if changed:
                    return None
                rows.append(atoms)
            result.append(list(zip(*rows, strict=True)))
        return result

    def _split_at(
        self, segment: Segment, suffixes: list[int]
    ) -> tuple[list[Atom], bool]:
        """The factors of a segment between `suffixes`; whether a set was divided."""
        sizes = [b // a for a, b in zip([1, *suffixes[:-1]], suffixes, strict=True)]
        atoms: list[Atom] = []
        rest = list(segment)
        for size in sizes:
            last = rest.pop() if rest else Atom(1, constant=True)
            if last.size == size:
                atoms.append(last)
                continue
            assert last.size % size == 0, (segment, suffixes)
            pieces = self.split_factor(last, size)
            if len(pieces) == 1:
                return [], True
            rest += pieces[:1]
            atoms.append(pieces[1])
        return atoms[::-1], False

    def note(self, axes: Iterable[Axis]) -> None:
        """These axes stand beside each other in one array."""
        axes = tuple(axes)
        if len(atoms_of(axes)) > 0:
            self.contexts.append(axes)


def _bounds(axis: Axis) -> list[int]:
    ends, total = [], 0
    for segment in axis:
        total += size_of(segment)
        ends.append(total)
    return ends[:-1]


def _suffixes(segment: Segment) -> list[int]:
    found, total = [], 1
    for atom in reversed(segment):
        total *= atom.size
        found.append(total)
    return [n for n in found if n > 1] or [1]


__all__ = ["Column", "Ledger", "Node", "Turn"]
