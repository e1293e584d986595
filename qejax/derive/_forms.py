"""Factors of units as unknowns, and the linear equations that operations put on them.

A unit that is multiplied by a number writes `s_1 ** k_1 * s_2 ** k_2 ...` on whatever
holds it, with one unknown factor `s` for each leaf axis at the start. Joins set such
products equal and nonlinear maps set them to one: linear equations of the exponents,
over the rationals for sizes and over GF(2) for signs. What stays free is the group.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Form:
    """A product of unknown factors.

    Attributes:
        size: exponents of the sizes of unknowns, sorted, none of them zero.
        sign: unknowns whose sign it carries.
    """

    size: tuple[tuple[int, Fraction], ...] = ()
    sign: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is in it."""
        return bool(self.size or self.sign)

    def __add__(self, other: "Form") -> "Form":
        """Returns the product of both."""
        if not self or not other:
            return other if not self else self
        return Form(_sum(self.size, other.size), self.sign ^ other.sign)

    def power(self, exponent: Fraction, sign: bool) -> "Form":
        """Returns a power of the size, with the sign or without it."""
        size = tuple((v, k * exponent) for v, k in self.size) if exponent else ()
        return Form(size, self.sign if sign else frozenset())

    def __neg__(self) -> "Form":
        """Returns the inverse."""
        return Form(tuple((v, -k) for v, k in self.size), self.sign)

    @property
    def unknowns(self) -> set[int]:
        """All unknowns in it."""
        return {v for v, _ in self.size} | self.sign


ONE = Form()
"""Nothing is multiplied."""


def _sum(
    a: tuple[tuple[int, Fraction], ...], b: tuple[tuple[int, Fraction], ...]
) -> tuple[tuple[int, Fraction], ...]:
    total = dict(a)
    for v, k in b:
        total[v] = total.get(v, Fraction(0)) + k
    return tuple(sorted((v, k) for v, k in total.items() if k))


class Equations:
    """Unknown factors, and what is known of them.

    Every equation is solved as it comes, for its newest unknown: the oldest ones, those
    of the first leaves, stay. Unknowns of `last` are solved for only if nothing else is
    left: turns of sines.
    """

    def __init__(self) -> None:
        self.number = 0
        self.last: set[int] = set()
        self._size: dict[int, tuple[tuple[int, Fraction], ...]] = {}
        self._sign: dict[int, frozenset[int]] = {}

    def fresh(self, *, last: bool = False) -> int:
        """Returns a new unknown."""
        self.number += 1
        if last:
            self.last.add(self.number)
        return self.number

    def unknown(self) -> Form:
        """Returns the form of a new unknown."""
        v = self.fresh()
        return Form(((v, Fraction(1)),), frozenset([v]))

    def reduced(self, form: Form) -> Form:
        """Returns the form in unknowns that no equation is solved for."""
        if not form:
            return form
        return Form(self._reduce_size(form.size), self._reduce_sign(form.sign))

    def _reduce_size(
        self, size: tuple[tuple[int, Fraction], ...]
    ) -> tuple[tuple[int, Fraction], ...]:
        if not any(v in self._size for v, _ in size):
            return size
        total: dict[int, Fraction] = {}
        for v, k in size:
            for w, j in self._solved_size(v):
                total[w] = total.get(w, Fraction(0)) + k * j
        return tuple(sorted((v, k) for v, k in total.items() if k))

    def _solved_size(self, v: int) -> tuple[tuple[int, Fraction], ...]:
        if v not in self._size:
            return ((v, Fraction(1)),)
        row = self._reduce_size(self._size[v])
        self._size[v] = row
        return row

    def _reduce_sign(self, sign: frozenset[int]) -> frozenset[int]:
        if not any(v in self._sign for v in sign):
            return sign
        total: frozenset[int] = frozenset()
        for v in sign:
            if v in self._sign:
                self._sign[v] = self._reduce_sign(self._sign[v])
                total ^= self._sign[v]
            else:
                total ^= {v}
        return total

    def one(self, form: Form, *, size: bool = True, sign: bool = True) -> bool:
        """Adds the equation that the form is one, whatever the units.

        Args:
            form: what is one.
            size: whether its size is.
            sign: whether its sign is.

        Returns:
            Whether that was new.
        """
        form = self.reduced(form)
        new = False
        if size and form.size:
            pivot = self._newest(v for v, _ in form.size)
            k = dict(form.size)[pivot]
            self._size[pivot] = tuple((v, -j / k) for v, j in form.size if v != pivot)
            new = True
        if sign and form.sign:
            pivot = self._newest(form.sign)
            self._sign[pivot] = form.sign - {pivot}
            new = True
        return new

    def _newest(self, unknowns: Iterable[int]) -> int:
        return max(unknowns, key=lambda v: (v not in self.last, v))
