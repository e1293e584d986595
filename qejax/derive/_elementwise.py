"""Operations entry by entry: joins, products, and maps with a law of their own.

A map `f` applied to every entry commutes with permutations. With a factor `s` it does
if `f(s x) = s^k f(x)`: `k` for positive `s` is the degree of `f`, for `s = -1` it tells
odd functions from even ones. A product multiplies factors; a sum wants them equal.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from qejax.derive._forms import ONE, Form
from qejax.derive._ledger import Column, Ledger, Turn
from qejax.derive._units import MONOMIAL, Atom, Axis, atoms_of, is_constant, merged
from qejax.derive._value import Value, lifted


class Law(NamedTuple):
    """What a map of one number does to factors.

    Attributes:
        degree: `f(s x) = s^degree f(x)` for positive `s`; `None` if only for one.
        parity: "odd", "even", or "none".
    """

    degree: Fraction | None
    parity: str


def _law(degree: int | str | None, parity: str) -> Law:
    return Law(None if degree is None else Fraction(degree), parity)


LAWS: dict[str, Law] = {
    **dict.fromkeys(("abs",), _law(1, "even")),
    **dict.fromkeys(("sign",), _law(0, "odd")),
    **dict.fromkeys(("is_finite",), _law(0, "even")),
    **dict.fromkeys(("square",), _law(2, "even")),
    **dict.fromkeys(("sqrt",), _law("1/2", "none")),
    **dict.fromkeys(("rsqrt",), _law("-1/2", "none")),
    **dict.fromkeys(("cbrt",), _law("1/3", "odd")),
    **dict.fromkeys(
        (
            *("tanh", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh"),
            *("erf", "erf_inv", "round"),
        ),
        _law(None, "odd"),
    ),
    **dict.fromkeys(("cos", "cosh", "bessel_i0e"), _law(None, "even")),
    **dict.fromkeys(
        (
            *("exp", "exp2", "expm1", "log", "log1p", "logistic", "erfc", "acos"),
            *("acosh", "floor", "ceil", "lgamma", "digamma", "not", "population_count"),
            *("clz", "bessel_i1e"),
        ),
        _law(None, "none"),
    ),
}
"""Laws of maps of one array, by primitive."""


def powered(form: Form, law: Law) -> Form:
    """Returns what a map makes of a factor that it allows."""
    degree = Fraction(0) if law.degree is None else law.degree
    return form.power(degree, law.parity == "odd")


def mapped(ledger: Ledger, value: Value, law: Law) -> Value:
    """Returns a map applied to every entry of a value."""
    axes = []
    for axis in value.axes:
        segments = []
        for segment in ledger.normal(axis):
            atoms = []
            for atom in segment:
                ledger.lower(atom, MONOMIAL)
                _allow(ledger, atom.form, law, atom)
                atoms.append(
                    Atom(atom.size, atom.units, powered(atom.form, law), atom.constant)
                )
            segments.append(tuple(atoms))
        axes.append(tuple(segments))
    _allow(ledger, value.factor, law, None)
    return Value(tuple(axes), powered(value.factor, law), value.weights)


def _allow(ledger: Ledger, form: Form, law: Law, atom: Atom | None) -> None:
    units = None if atom is None else atom.units
    ledger.one(form, units, size=law.degree is None, sign=law.parity == "none")


def joined(
    ledger: Ledger,
    values: Sequence[Value],
    shape: tuple[int, ...],
    *,
    matrices: bool = True,
    sign: bool = True,
) -> Value:
    """Returns a map of several arrays that wants the same action on all of them.

    Args:
        ledger: of what is known.
        values: the arrays.
        shape: of the result.
        matrices: whether the map is linear; permutations and factors otherwise.
        sign: whether it commutes with a common sign; with positive factors it does.
    """
    weights = any(value.weights for value in values)
    present = [value for value in values if not value.zero]
    if not present:
        return Value(tuple(axis for axis in lifted(values[0], shape)), weights=weights)
    sized = [value for value in present if not value.unsized]
    operands = [lifted(value, shape) for value in present]
    axes = _side_by_side(
        ledger, operands, lambda column: _join(ledger, column, present, matrices)
    )
    for value in sized[1:]:
        ledger.same(sized[0].factor, value.factor)
    sign = sign and len(sized) == len(present)
    result = Value(tuple(axes), sized[0].factor if sized else ONE, weights)
    if not sign:
        for atom in atoms_of(result.axes):
            ledger.one(atom.form, atom.units, size=False)
        ledger.one(result.factor, None, size=False)
    return result


def _side_by_side(
    ledger: Ledger,
    operands: Sequence[tuple[Axis, ...]],
    one: Callable[[Column], Atom],
) -> list[Axis]:
    """Axes of a map of several arrays, from what it makes of each column."""
    axes: list[Axis] = []
    for own in zip(*operands, strict=True):
        if all(is_constant(axis) for axis in own):
            axes.append(own[0])
            continue
        aligned = ledger.align(own)
        axes.append(merged([tuple(map(one, columns)) for columns in aligned]))
    return axes


def _join(
    ledger: Ledger, column: Column, values: Sequence[Value], matrices: bool
) -> Atom:
    """One column of a join."""
    moved = [atom for atom in column if atom.units is not None]
    size = column[0].size
    if not moved:
        return Atom(size, constant=all(atom.constant for atom in column))
    if any(atom.units is None and not atom.constant for atom in column):
        for atom in moved:
            ledger.fix(atom)
        return Atom(size)
    first = moved[0]
    for atom in moved[1:]:
        ledger.unite(first, atom)
    for atom in moved[1:]:
        ledger.same(first.form, atom.form, first.units)
    if not matrices:
        ledger.lower(first, MONOMIAL)
    for atom, value in zip(column, values, strict=True):
        if atom.units is None and not (value.unsized and not matrices):
            ledger.keep_ones(first)
    return Atom(size, first.units, first.form)


def multiplied(
    ledger: Ledger,
    values: Sequence[Value],
    exponents: Sequence[int],
    shape: tuple[int, ...],
) -> Value:
    """Returns the product of powers of arrays, entry by entry."""
    operands = [lifted(value, shape) for value in values]
    axes = _side_by_side(
        ledger, operands, lambda column: _multiply(ledger, column, exponents)
    )
    factor = ONE
    for value, exponent in zip(values, exponents, strict=True):
        factor = factor + value.factor.power(Fraction(exponent), bool(exponent % 2))
    return Value(tuple(axes), factor, any(value.weights for value in values))


def _multiply(ledger: Ledger, column: Column, exponents: Sequence[int]) -> Atom:
    moved = [
        (atom, exponent)
        for atom, exponent in zip(column, exponents, strict=True)
        if atom.units is not None
    ]
    size = column[0].size
    if not moved:
        return Atom(size, constant=all(atom.constant for atom in column))
    if any(atom.units is None and not atom.constant for atom in column):
        for atom, _ in moved:
            ledger.fix(atom)
        return Atom(size)
    first = moved[0][0]
    for atom, _ in moved[1:]:
        ledger.unite(first, atom)
    if len(moved) > 1 or moved[0][1] != 1:
        ledger.lower(first, MONOMIAL)
    form = ONE
    for atom, exponent in moved:
        form = form + atom.form.power(Fraction(exponent), bool(exponent % 2))
    return Atom(size, first.units, form)


def sine(ledger: Ledger, value: Value) -> Value:
    """Returns the sine; half a period of a bias of its own turns its sign."""
    result = mapped(ledger, value, LAWS["sin"])
    moved = [atom for atom in atoms_of(result.axes)]
    if value.bias is None or len(moved) != 1:
        return result
    leaf, times = value.bias
    unknown = ledger.equations.fresh(last=True)
    ledger.turns.append(Turn(unknown, leaf, math.pi / times))
    turned = Form((), frozenset([unknown]))
    axes = tuple(
        tuple(
            tuple(
                a._replace(form=a.form + turned) if a.units is not None else a
                for a in segment
            )
            for segment in axis
        )
        for axis in result.axes
    )
    return Value(axes, result.factor, result.weights)
