"""Rotary embedding, however it is written: what commutes with it is found by trial.

Slices of units, products with known tables and concatenations are linear maps of one
axis. Taken one by one they would leave nothing; taken together they may commute with
more. A linear map commutes with a group if it does with a generic element of it, so the
equations between an array and the first array of the same shape that they make are run
on random numbers, moved before and moved after.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.extend.core
import numpy as np

from qejax.derive._numbers import compute
from qejax.derive._units import LINEAR, Axis, length
from qejax.derive._value import Value

STEPS = (
    "slice",
    "split",
    "mul",
    "neg",
    "add",
    "sub",
    "concatenate",
    "div",
    "convert_element_type",
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "transpose",
)
"""Primitives that are linear in one operand if the others are known."""

LONGEST = 40
"""Equations between an array and what is made of it."""

_CLOSE = 1e-9


class Region(NamedTuple):
    """Equations that make one array of another.

    Attributes:
        numbers: of the equations.
        tables: numbers of equations that make the known numbers they read.
        result: the variable that they make.
        axis: along which units are mixed.
    """

    numbers: frozenset[int]
    tables: frozenset[int]
    result: Any
    axis: int


def rotary_region(
    jaxpr: Any,
    start: int,
    source: Any,
    values: Mapping[Any, Value],
    readers: Mapping[Any, Sequence[int]],
) -> Region | None:
    """Returns the equations that turn pairs of units of a variable.

    Args:
        jaxpr: that is read.
        start: number of the first equation that reads the variable.
        source: the variable.
        values: of all variables before that equation.
        readers: by variable, numbers of the equations that read it; -1 of the results.

    Returns:
        Equations that commute with a complex number for each pair of units `j` and
        `j + d / 2`, and with any matrix on the other axes; `None` if there are none.
    """
    axis = _sliced_axis(jaxpr, start, source)
    if axis is None or not _splittable(values[source].axes[axis]):
        return None
    made: dict[Any, int] = {}
    tables: dict[Any, int] = {}
    for number in range(start, min(start + LONGEST, len(jaxpr.eqns))):
        eqn = jaxpr.eqns[number]
        inputs = [v for v in eqn.invars if not isinstance(v, jax.extend.core.Literal)]
        own = [v for v in inputs if v is source or v in made]
        known = all(v in own or v in tables or _is_known(values, v) for v in inputs)
        if known and not own and not eqn.effects:
            tables.update(dict.fromkeys(eqn.outvars, number))
        if not own or eqn.primitive.name not in STEPS:
            continue
        if not known or not _linear(eqn, own):
            continue
        made.update(dict.fromkeys(eqn.outvars, number))
        (result, *more) = eqn.outvars
        if more or result.aval.shape != source.aval.shape:
            continue
        numbers = _needed(jaxpr, made, result, source)
        if _closed(jaxpr, numbers, result, readers) and len(numbers) > 1:
            used = _needed(jaxpr, {**made, **tables}, result, source) - numbers
            region = Region(numbers, used, result, axis)
            return region if _commutes(jaxpr, region, source, values) else None
    return None


class Runner(NamedTuple):
    """The equations of a region as one operation on numbers."""

    run: Callable[[np.ndarray], np.ndarray]
    multiple_results: bool = False

    def bind(self, x: Any) -> np.ndarray:
        """Returns the result for numbers in place of the source."""
        return self.run(np.asarray(x))


def runner(
    jaxpr: Any, region: Region, source: Any, values: Mapping[Any, Value]
) -> Runner:
    """Returns the equations of a region as one operation."""
    both = region.numbers | region.tables
    inputs = [v for n in both for v in jaxpr.eqns[n].invars]
    needed = {v for v in inputs if not isinstance(v, jax.extend.core.Literal)}
    known = {v: values[v] for v in needed if v in values}
    return Runner(lambda x: _run(jaxpr, region, source, known, x))


def _sliced_axis(jaxpr: Any, start: int, source: Any) -> int | None:
    """The one axis along which equations cut a variable."""
    axes = set()
    for eqn in jaxpr.eqns[start : start + LONGEST]:
        if not any(v is source for v in eqn.invars):
            continue
        if eqn.primitive.name == "split":
            axes.add(eqn.params["axis"])
        elif eqn.primitive.name == "slice":
            sizes = zip(source.aval.shape, eqn.outvars[0].aval.shape, strict=True)
            axes |= {n for n, (a, b) in enumerate(sizes) if a != b}
    return axes.pop() if len(axes) == 1 else None


def _splittable(axis: Axis) -> bool:
    if len(axis) != 1 or len(axis[0]) != 1 or length(axis) % 2:
        return False
    units = axis[0][0].units
    return units is not None and units.kind == LINEAR and not units.ones


def _is_known(values: Mapping[Any, Value], var: Any) -> bool:
    return var in values and values[var].known is not None


def _linear(eqn: Any, own: Sequence[Any]) -> bool:
    """Whether an equation is linear in what is made of the source."""
    mine = [any(v is o for o in own) for v in eqn.invars]
    if eqn.primitive.name == "mul":
        return sum(mine) == 1
    if eqn.primitive.name == "div":
        return mine == [True, False]
    return all(mine)


def _needed(
    jaxpr: Any, made: Mapping[Any, int], result: Any, source: Any
) -> frozenset[int]:
    """Numbers of the equations that lead to a result."""
    numbers: set[int] = set()
    waiting = [result]
    while waiting:
        var = waiting.pop()
        if isinstance(var, jax.extend.core.Literal) or var is source:
            continue
        if var in made and made[var] not in numbers:
            numbers.add(made[var])
            waiting += jaxpr.eqns[made[var]].invars
    return frozenset(numbers)


def _closed(
    jaxpr: Any,
    numbers: frozenset[int],
    result: Any,
    readers: Mapping[Any, Sequence[int]],
) -> bool:
    """Whether nothing else reads what the equations make on their way."""
    inner = {v for n in numbers for v in jaxpr.eqns[n].outvars if v is not result}
    return all({*readers.get(v, ())} <= numbers for v in inner)


def _commutes(
    jaxpr: Any, region: Region, source: Any, values: Mapping[Any, Value]
) -> bool:
    draw = np.random.default_rng(0)
    x = draw.normal(size=source.aval.shape)
    y = _run(jaxpr, region, source, values, x)
    half = x.shape[region.axis] // 2
    numbers = draw.normal(size=half) + 1j * draw.normal(size=half)
    moves = [lambda a: _turned(a, region.axis, numbers)]
    for axis, size in enumerate(x.shape):
        if axis == region.axis or math.prod(x.shape[axis : axis + 1]) == 1:
            continue
        if any(a.units is not None for s in values[source].axes[axis] for a in s):
            matrix = draw.normal(size=(size, size))
            moves.append(lambda a, n=axis, m=matrix: _mixed(a, n, m))
    return all(
        np.allclose(
            _run(jaxpr, region, source, values, move(x)), move(y), _CLOSE, _CLOSE
        )
        for move in moves
    )


def _turned(x: np.ndarray, axis: int, numbers: np.ndarray) -> np.ndarray:
    first, second = np.split(np.moveaxis(x, axis, -1), 2, -1)
    z = (first + 1j * second) * numbers
    return np.moveaxis(np.concatenate([z.real, z.imag], -1), -1, axis)


def _mixed(x: np.ndarray, axis: int, matrix: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.moveaxis(x, axis, -1) @ matrix, -1, axis)


def _run(
    jaxpr: Any, region: Region, source: Any, values: Mapping[Any, Value], x: np.ndarray
) -> np.ndarray:
    """The result of a region for numbers in place of its source."""
    found: dict[Any, Any] = {source: x}

    def read(var: Any) -> Any:
        if isinstance(var, jax.extend.core.Literal):
            return var.val
        return found[var] if var in found else values[var].known

    for number in sorted(region.numbers | region.tables):
        eqn = jaxpr.eqns[number]
        dtypes = [v.aval.dtype for v in eqn.invars]
        results = compute(eqn.primitive, eqn.params, [*map(read, eqn.invars)], dtypes)
        found.update(zip(eqn.outvars, results, strict=True))
    return np.asarray(found[region.result], x.dtype)
