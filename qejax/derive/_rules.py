"""One rule a primitive: what an operation makes of the actions on its operands."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp

from qejax.derive import _arrays, _contract
from qejax.derive._arrays import read_index
from qejax.derive._elementwise import LAWS, Law, joined, mapped, multiplied, sine
from qejax.derive._ledger import Ledger
from qejax.derive._units import constant, fixed, merged
from qejax.derive._value import Value, lifted


class Site(NamedTuple):
    """What a rule may ask of the equation that it is for.

    Attributes:
        params: of the primitive.
        shapes: of the results.
        dtypes: of the results.
        sources: dtypes of the operands.
        used: whether each result is read by anything.
        same: whether all operands are one and the same variable.
        lengths_only: whether all that reads the result sums it.
    """

    params: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    sources: tuple[Any, ...]
    used: tuple[bool, ...]
    same: bool
    lengths_only: bool


Rule = Callable[[Ledger, Site, list[Value]], list[Value]]
"""Values of the results, from those of the operands."""


def _add(sign: float, ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    result = joined(ledger, values, site.shapes[0])
    first, second = values
    if second.bias is not None:
        second = replace(second, bias=(second.bias[0], sign * second.bias[1]))
    return [replace(result, bias=first.bias or second.bias)]


def _scaled_bias(value: Value, times: float | None) -> tuple[str, float] | None:
    if value.bias is None or not times:
        return None
    return value.bias[0], value.bias[1] * times


def _multiply(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    first, second = values
    if site.same:
        return _square(ledger, site, values[:1])
    result = multiplied(ledger, values, (1, 1), site.shapes[0])
    bias = _scaled_bias(first, second.scalar) or _scaled_bias(second, first.scalar)
    return [replace(result, bias=bias)]


def _divide(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    first, second = values
    result = multiplied(ledger, values, (1, -1), site.shapes[0])
    scalar = second.scalar
    bias = _scaled_bias(first, 1 / scalar) if scalar else None
    return [replace(result, bias=bias)]


def _negate(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    del ledger, site
    (value,) = values
    return [replace(value.viewed(value.axes), bias=_scaled_bias(value, -1), leaf=None)]


def _square(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    (value,) = values
    if site.lengths_only:
        return [Value(value.axes, value.factor, value.weights, root=value)]
    return [mapped(ledger, value, LAWS["square"])]


def _integer_power(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    exponent = site.params["y"]
    if exponent == 2:
        return _square(ledger, site, values)
    law = Law(Fraction(exponent), "odd" if exponent % 2 else "even")
    return [mapped(ledger, values[0], law)]


def _power(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    base, exponent = values
    number = exponent.scalar
    if number is None or not math.isfinite(number):
        for value in values:
            read_index(ledger, value)
        return [joined(ledger, values, site.shapes[0], matrices=False)]
    parity = "none" if number % 1 else "odd" if number % 2 else "even"
    wide = joined(ledger, [base, base], site.shapes[0])
    # Roots of high order would ask for powers of factors that no float holds.
    degree = Fraction(number) if Fraction(number).denominator <= FINEST else None
    return [mapped(ledger, wide, Law(degree, parity))]


FINEST = 4
"""Denominator of the exponents that factors pass."""


def _map(law: Law, ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    del site
    return [mapped(ledger, values[0], law)]


def _sine(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    del site
    return [sine(ledger, values[0])]


def _largest(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    return [joined(ledger, values, site.shapes[0], matrices=False, sign=False)]


def _compare(
    sign: bool, ledger: Ledger, site: Site, values: list[Value]
) -> list[Value]:
    result = joined(ledger, values, site.shapes[0], matrices=False, sign=sign)
    return [_without_factors(result)]


def _without_factors(value: Value) -> Value:
    bare = Value(value.axes).factor
    axes = tuple(
        tuple(tuple(a._replace(form=bare) for a in segment) for segment in axis)
        for axis in value.axes
    )
    return Value(axes, weights=value.weights)


def _logical(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    for value in values:
        read_index(ledger, value)
    blank = [replace(value, known=None) for value in values]
    return [joined(ledger, blank, site.shapes[0], matrices=False)]


def _view(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    del ledger, site
    return [replace(value, root=None) for value in values]


def _convert(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    source, target = site.sources[0], site.dtypes[0]
    if jnp.issubdtype(source, jnp.inexact) and not jnp.issubdtype(target, jnp.inexact):
        return [mapped(ledger, values[0], LAWS["floor"])]
    return [replace(values[0], known=None, root=None)]


def _select(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    which, *cases = values
    read_index(ledger, which)
    shape = site.shapes[0]
    result = joined(ledger, cases, shape)
    axes = tuple(
        _contract.beside(ledger, a, b)
        for a, b in zip(result.axes, lifted(which, shape), strict=True)
    )
    return [Value(axes, result.factor, result.weights or which.weights)]


def _moved(rule: Any, ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    return [rule(ledger, values, site.params)]


def _conv(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    spec = site.params["dimension_numbers"].out_spec
    sides = [site.shapes[0][position] for position in spec[2:]]
    return [_contract.conv_rule(ledger, values, {**site.params, "sides": sides})]


def _split(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    (value,), along, start = values, site.params["axis"], 0
    parts = []
    for size in site.params["sizes"]:
        axis, form = _arrays.sliced(ledger, value.axes[along], start, start + size)
        axes = (*value.axes[:along], axis, *value.axes[along + 1 :])
        parts.append(value.viewed(axes, value.factor + form))
        start += size
    return parts


def _unstack(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    (value,), along = values, site.params["axis"]
    parts = []
    for at in range(len(site.shapes)):
        _, form = _arrays.sliced(ledger, value.axes[along], at, at + 1)
        axes = (*value.axes[:along], *value.axes[along + 1 :])
        parts.append(value.viewed(axes, value.factor + form))
    return parts


def _real_part(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    """Linear over the real numbers, as all that acts is."""
    del ledger, site
    (value,) = values
    return [replace(value.viewed(value.axes), leaf=None, bias=None)]


def _complex(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    return [joined(ledger, values, site.shapes[0])]


def _reduce(law: Law, ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    gone = site.params["axes"]
    value = mapped(ledger, values[0], law)
    kept = tuple(axis for n, axis in enumerate(value.axes) if n not in gone)
    return [Value(kept, value.factor, value.weights)]


def _place_of_extreme(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    for position in site.params["axes"]:
        _arrays.fix_axis(ledger, values[0].axes[position])
    return [_without_factors(_contract.extreme_rule(ledger, values, site.params))]


def _cumulate(
    linear: bool, ledger: Ledger, site: Site, values: list[Value]
) -> list[Value]:
    position = site.params["axis"]
    return [_contract.along_rule(ledger, values[0], position, linear=linear)]


def _tile(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    """Copies one behind another: indices that nothing moves, times those there were."""
    value, axes = values[0], []
    lead = len(site.shapes[0]) - len(value.axes)
    own = [*map(fixed, (1,) * lead), *value.axes]
    for axis, times in zip(own, site.params["reps"], strict=True):
        copies = ledger.product([constant(times), ledger.normal(axis)])
        axes.append(merged(copies) if times > 1 else axis)
    return [value.viewed(tuple(axes))]


def _sort(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    position = site.params["dimension"]
    if len(values) == 1:
        return [_contract.ordered_rule(ledger, values[0], position)]
    return [
        _contract.along_rule(ledger, value, position, linear=False) for value in values
    ]


def _top(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    position = site.params.get("axis", -1) % len(values[0].axes)
    if site.used[1]:
        _arrays.fix_axis(ledger, values[0].axes[position])
    value = _contract.ordered_rule(ledger, values[0], position)
    size = site.shapes[0][position]
    axes = (*value.axes[:position], fixed(size), *value.axes[position + 1 :])
    value = replace(value, axes=axes)
    return [value, _without_factors(value)]


def _window(
    linear: bool, ledger: Ledger, site: Site, values: list[Value]
) -> list[Value]:
    params = site.params
    rows = zip(
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params["base_dilation"],
        strict=True,
    )
    moving = [
        size > 1 or stride > 1 or tuple(pad) != (0, 0) or dilation > 1
        for size, stride, pad, dilation in rows
    ]
    shape = site.shapes[0]
    return [_contract.window_rule(ledger, values[0], shape, moving, linear=linear)]


def unsupported(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    """Nothing is known of a primitive: nothing acts on what it reads."""
    if any(value.weights for value in values):
        ledger.unsupported[ledger.reason] = ledger.unsupported.get(ledger.reason, 0) + 1
    for value in values:
        _arrays.fix_value(ledger, value)
    weights = any(value.weights for value in values)
    return [Value(tuple(map(fixed, shape)), weights=weights) for shape in site.shapes]


def empty(ledger: Ledger, site: Site, values: list[Value]) -> list[Value]:
    """Of operands or results without entries: nothing acts on what there is."""
    if any(0 not in shape for shape in site.shapes):
        for value in values:
            _arrays.fix_value(ledger, value)
    return [Value(tuple(map(fixed, shape))) for shape in site.shapes]


_NONE = LAWS["floor"]

RULES: dict[str, Rule] = {
    **{name: partial(_map, law) for name, law in LAWS.items()},
    "sin": _sine,
    "square": _square,
    "integer_pow": _integer_power,
    "pow": _power,
    "neg": _negate,
    "add": partial(_add, 1.0),
    "add_any": partial(_add, 1.0),
    "sub": partial(_add, -1.0),
    "mul": _multiply,
    "div": _divide,
    "select_n": _select,
    "convert_element_type": _convert,
    "conv_general_dilated": _conv,
    "split": _split,
    "unstack": _unstack,
    "complex": _complex,
    **dict.fromkeys(("real", "imag", "conj"), _real_part),
    "sort": _sort,
    "tile": _tile,
    "top_k": _top,
    **dict.fromkeys(("max", "min", "clamp"), _largest),
    **dict.fromkeys(("lt", "le", "gt", "ge"), partial(_compare, False)),
    **dict.fromkeys(("eq", "ne"), partial(_compare, True)),
    **dict.fromkeys(("and", "or", "xor"), _logical),
    **dict.fromkeys(
        (
            *("copy", "copy_p", "stop_gradient", "reduce_precision"),
            *("optimization_barrier", "sharding_constraint", "mesh_cast", "pvary"),
        ),
        _view,
    ),
    **{
        name: partial(_moved, rule)
        for name, rule in {
            "reshape": _arrays.reshape_rule,
            "squeeze": _arrays.squeeze_rule,
            "expand_dims": _arrays.expand_rule,
            "transpose": _arrays.transpose_rule,
            "broadcast_in_dim": _arrays.broadcast_rule,
            "slice": _arrays.slice_rule,
            "rev": _arrays.reverse_rule,
            "concatenate": _arrays.concatenate_rule,
            "stack": _arrays.stack_rule,
            "pad": _arrays.pad_rule,
            "dynamic_slice": _arrays.dynamic_slice_rule,
            "dynamic_update_slice": _arrays.dynamic_update_rule,
            "gather": _arrays.gather_rule,
            "scatter": _arrays.scatter_rule,
            "scatter-add": _arrays.scatter_rule,
            "dot_general": _contract.dot_rule,
            "reduce_sum": _contract.sum_rule,
            "reduce_max": _contract.extreme_rule,
            "reduce_min": _contract.extreme_rule,
        }.items()
    },
    **dict.fromkeys(
        ("reduce_prod", "reduce_and", "reduce_or", "reduce_xor"),
        partial(_reduce, _NONE),
    ),
    **dict.fromkeys(("argmax", "argmin"), _place_of_extreme),
    "cumsum": partial(_cumulate, True),
    **dict.fromkeys(
        ("cumprod", "cummax", "cummin", "cumlogsumexp"), partial(_cumulate, False)
    ),
    "reduce_window_sum": partial(_window, True),
    **dict.fromkeys(
        ("reduce_window_max", "reduce_window_min"), partial(_window, False)
    ),
}
"""Rules by the name of the primitive."""
