"""Reads a jaxpr equation by equation: calls are entered, loops read once."""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from qejax.derive._apart import slice_by_slice, slices_of
from qejax.derive._arrays import read_index
from qejax.derive._elementwise import joined
from qejax.derive._ledger import Ledger, Node
from qejax.derive._numbers import compute
from qejax.derive._rotary import rotary_region, runner
from qejax.derive._rules import RULES, Site, empty, unsupported
from qejax.derive._source import reason_of
from qejax.derive._units import Axis, Reason, fixed, is_still, length
from qejax.derive._value import Value, known_value

MOST_KNOWN = 1 << 18
"""Arrays of more numbers are not computed while a function is read."""

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "named_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Primitives that call a function once, and the parameter that holds it."""


def interpret(
    ledger: Ledger,
    closed: Any,
    arguments: Sequence[Value],
    caller: Reason | None = None,
) -> list[Value]:
    """Returns the values of a function's results.

    Args:
        ledger: of what is known; added to.
        closed: a `ClosedJaxpr`, or a `Jaxpr` without constants.
        arguments: one for each input variable.
        caller: what calls the function.
    """
    jaxpr = getattr(closed, "jaxpr", closed)
    values: dict[Any, Value] = {}
    for var, array in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=False):
        values[var] = _constant(array)
    values.update(zip(jaxpr.invars, arguments, strict=True))
    readers = _readers(jaxpr)
    uses = {
        var: {"return" if n < 0 else jaxpr.eqns[n].primitive.name for n in numbers}
        for var, numbers in readers.items()
    }
    skipped: set[int] = set()
    tried: set[Any] = set()

    def read(var: Any) -> Value:
        literal = isinstance(var, jax.extend.core.Literal)
        return known_value(np.asarray(var.val)) if literal else values[var]

    for number, eqn in enumerate(jaxpr.eqns):
        if number in skipped:
            continue
        ledger.reason = reason_of(eqn, caller)
        for var in eqn.invars:
            if isinstance(var, jax.extend.core.Literal) or var in tried:
                continue
            tried.add(var)
            if values[var].known is None and _CUTS & uses[var]:
                skipped |= _turn(ledger, jaxpr, number, var, values, readers)
        if number in skipped:
            continue
        results = _equation(ledger, eqn, [read(var) for var in eqn.invars], uses)
        for var, value in zip(eqn.outvars, results, strict=True):
            shape = tuple(var.aval.shape)
            got = tuple(map(length, value.axes))
            assert got == shape, (eqn.primitive.name, got, shape)
            values[var] = value
            ledger.note(value.axes)
    return [read(var) for var in jaxpr.outvars]


def loop(ledger: Ledger, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
    """Notes that results depend on operands in a way that is not told."""
    ledger.nodes.append(Node("loop", None, {}, tuple(inputs), tuple(outputs)))


_CUTS = {"slice", "split"}


def _turn(
    ledger: Ledger,
    jaxpr: Any,
    number: int,
    var: Any,
    values: dict[Any, Value],
    readers: dict[Any, list[int]],
) -> set[int]:
    """Takes equations that turn pairs of units for one; returns their numbers."""
    given = values[var]
    value = replace(given, axes=tuple(map(ledger.normal, given.axes)))
    region = rotary_region(jaxpr, number, var, ChainMap({var: value}, values), readers)
    if region is None:
        return set()
    for segment in value.axes[region.axis]:
        for atom in segment:
            ledger.keep_rotary(atom)
    values[region.result] = result = replace(
        value, known=None, leaf=None, bias=None, root=None, pieces=None
    )
    ledger.note(value.axes)
    known = runner(jaxpr, region, var, values)
    ledger.nodes.append(
        Node("rotary", known, {}, (given,), (result,), (var.aval.dtype,))
    )
    return set(region.numbers)


def _constant(array: Any) -> Value:
    shape = np.shape(array)
    if np.prod(shape, dtype=int) > MOST_KNOWN or jnp.issubdtype(
        array.dtype, jax.dtypes.extended
    ):
        return Value(tuple(map(fixed, shape)))
    return known_value(np.asarray(array))


def _readers(jaxpr: Any) -> dict[Any, list[int]]:
    """Numbers of the equations that read each variable; -1 of the results."""
    readers: dict[Any, list[int]] = {}
    for number, eqn in enumerate(jaxpr.eqns):
        for var in eqn.invars:
            if not isinstance(var, jax.extend.core.Literal):
                readers.setdefault(var, []).append(number)
    for var in jaxpr.outvars:
        if not isinstance(var, jax.extend.core.Literal):
            readers.setdefault(var, []).append(-1)
    return readers


def _equation(
    ledger: Ledger, eqn: Any, values: list[Value], uses: dict[Any, set[str]]
) -> list[Value]:
    name = eqn.primitive.name
    if name in CALLS:
        return interpret(ledger, eqn.params[CALLS[name]], values, ledger.reason)
    if name in _CONTROL:
        return _CONTROL[name](ledger, eqn, values)
    site = Site(
        {key: _plain(value) for key, value in eqn.params.items()},
        tuple(_plain(tuple(var.aval.shape)) for var in eqn.outvars),
        tuple(var.aval.dtype for var in eqn.outvars),
        tuple(var.aval.dtype for var in eqn.invars),
        tuple(var in uses for var in eqn.outvars),
        len(eqn.invars) > 1 and all(var is eqn.invars[0] for var in eqn.invars),
        all(uses.get(var) == {"reduce_sum"} for var in eqn.outvars),
    )
    known = _evaluated(eqn, values, site)
    if known is not None:
        return known
    if all(value.pieces is None for value in values):
        return _ruled(ledger, eqn, site, values)

    def ruled(
        params: dict[str, Any], shapes: tuple[tuple[int, ...], ...], own: list[Value]
    ) -> list[Value]:
        return _ruled(ledger, eqn, site._replace(params=params, shapes=shapes), own)

    return slice_by_slice(ledger, name, site.params, values, site.shapes, ruled)


def _ruled(ledger: Ledger, eqn: Any, site: Site, values: list[Value]) -> list[Value]:
    """The results of an equation by the rule of its primitive."""
    name = eqn.primitive.name
    rule = empty if name not in _AROUND and _empty(site, values) else RULES.get(name)
    results = [
        replace(result) if any(result is value for value in values) else result
        for result in (rule or unsupported)(ledger, site, values)
    ]
    operands = tuple(values)
    ledger.nodes.append(
        Node(name, eqn.primitive, site.params, operands, tuple(results), site.sources)
    )
    for value in values:
        if value.leaf is not None and all(r.leaf != value.leaf for r in results):
            ledger.read[value.leaf] = ledger.read.get(value.leaf, 0) + 1
    return results


def _plain(parameter: Any) -> Any:
    """A parameter with integers of Python: some shapes are made of those of NumPy."""
    if type(parameter) is not tuple:
        return parameter
    return tuple(int(x) if isinstance(x, np.integer) else x for x in parameter)


_AROUND = ("concatenate", "pad")
"""Operations with something around what may be empty."""


def _empty(site: Site, values: list[Value]) -> bool:
    """Whether an operand or a result has no entries."""
    shapes = [*site.shapes, *(tuple(map(length, value.axes)) for value in values)]
    return any(0 in shape for shape in shapes)


def _evaluated(eqn: Any, values: list[Value], site: Site) -> list[Value] | None:
    """The numbers of an equation that depends on no argument."""
    if any(value.known is None for value in values) or eqn.effects:
        return None
    if sum(int(np.prod(shape)) for shape in site.shapes) > MOST_KNOWN:
        return None
    if any(jnp.issubdtype(d, jax.dtypes.extended) for d in site.dtypes):
        return None
    many = compute(
        eqn.primitive, eqn.params, [value.known for value in values], site.sources
    )
    return [known_value(array) for array in many]


def _scan(ledger: Ledger, eqn: Any, values: list[Value]) -> list[Value]:
    """A loop over slices: read once, unless weights are stacked along it."""
    params, caller = eqn.params, ledger.reason
    first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
    shared, carry, over = values[:first], values[first:last], values[last:]
    if any(_stacked(value) for value in over):
        return _unrolled(ledger, params, shared, carry, over)
    weights = any(value.weights for value in values)
    state = [_same_as(ledger, value, weights) for value in carry]
    slices = [replace(v.viewed(v.axes[1:]), bias=None, leaf=None) for v in over]
    operands = [*shared, *state, *slices]
    results = interpret(ledger, params["jaxpr"], operands, caller)
    after, made = results[: len(carry)], results[len(carry) :]
    ledger.reason = caller
    for begin, end in zip(state, after, strict=True):
        joined(ledger, [begin, end], tuple(map(length, begin.axes)))
    collected = [
        Value((fixed(params["length"]), *value.axes), value.factor, value.weights)
        for value in made
    ]
    loop(ledger, [*over, *carry], [*slices, *state])
    loop(ledger, [*after, *made], collected)
    return [*state, *collected]


def _stacked(value: Value) -> bool:
    return value.pieces is not None or not is_still(value.axes[0])


def _unrolled(
    ledger: Ledger,
    params: dict[str, Any],
    shared: list[Value],
    carry: list[Value],
    over: list[Value],
) -> list[Value]:
    steps, caller = range(params["length"]), ledger.reason
    rows: list[list[Value]] = []
    for step in reversed(steps) if params["reverse"] else steps:
        slices = [_slice(ledger, value, step) for value in over]
        operands = [*shared, *carry, *slices]
        results = interpret(ledger, params["jaxpr"], operands, caller)
        carry, made = results[: len(carry)], results[len(carry) :]
        rows.append(made)
    collected = []
    for column in zip(*rows, strict=True):
        shape = tuple(map(length, column[0].axes))
        value = joined(ledger, column, shape)
        axes = (fixed(len(rows)), *value.axes)
        collected.append(Value(axes, value.factor, value.weights))
        loop(ledger, column, collected[-1:])
    return [*carry, *collected]


def _slice(ledger: Ledger, value: Value, step: int) -> Value:
    if value.pieces is not None:
        return slices_of(ledger, value)[step]
    for segment in ledger.normal(value.axes[0]):
        for atom in segment:
            ledger.fix(atom)
    result = replace(value.viewed(value.axes[1:]), bias=None, leaf=None)
    loop(ledger, [value], [result])
    return result


def _same_as(ledger: Ledger, value: Value, weights: bool) -> Value:
    """What a loop carries: anything, made one with what it starts from."""
    shape = tuple(map(length, value.axes))
    axes: tuple[Axis, ...] = tuple(ledger.new_axis(size) for size in shape)
    state = Value(axes, ledger.equations.unknown(), weights or value.weights)
    joined(ledger, [state, value], shape)
    return state


def _cond(ledger: Ledger, eqn: Any, values: list[Value]) -> list[Value]:
    """Branches: what both sides allow."""
    which, *operands = values
    branches, caller = eqn.params["branches"], ledger.reason
    number = which.scalar
    if number is not None:
        at = min(max(int(number), 0), len(branches) - 1)
        return interpret(ledger, branches[at], operands, caller)
    read_index(ledger, which)
    many = [interpret(ledger, branch, operands, caller) for branch in branches]
    ledger.reason = caller
    results = []
    for column, var in zip(zip(*many, strict=True), eqn.outvars, strict=True):
        value = joined(ledger, column, tuple(var.aval.shape))
        weights = value.weights or which.weights
        results.append(Value(value.axes, value.factor, weights))
        loop(ledger, [which, *column], results[-1:])
    return results


def _while(ledger: Ledger, eqn: Any, values: list[Value]) -> list[Value]:
    """A loop until a condition: read once."""
    params, caller = eqn.params, ledger.reason
    first, last = params["cond_nconsts"], params["cond_nconsts"]
    last += params["body_nconsts"]
    of_test, of_body, carry = values[:first], values[first:last], values[last:]
    weights = any(value.weights for value in values)
    state = [_same_as(ledger, value, weights) for value in carry]
    (test,) = interpret(ledger, params["cond_jaxpr"], [*of_test, *state], caller)
    read_index(ledger, test)
    after = interpret(ledger, params["body_jaxpr"], [*of_body, *state], caller)
    ledger.reason = caller
    for begin, end in zip(state, after, strict=True):
        joined(ledger, [begin, end], tuple(map(length, begin.axes)))
    loop(ledger, carry, state)
    loop(ledger, [test, *after], [])
    return state


_CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
"""Primitives that call functions once, often, or not at all."""
