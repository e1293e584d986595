"""Operations that move entries about: reshapes, slices, concatenations, lookups."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qejax.derive._elementwise import joined
from qejax.derive._forms import ONE, Form
from qejax.derive._ledger import Ledger
from qejax.derive._regroup import regrouped
from qejax.derive._units import (
    MONOMIAL,
    Axis,
    atoms_of,
    constant,
    fixed,
    is_constant,
    is_still,
    length,
    merged,
    size_of,
)
from qejax.derive._value import Value

Params = dict[str, Any]


def fix_axis(ledger: Ledger, axis: Axis) -> None:
    """Nothing acts on the axis any more."""
    for atom in atoms_of([axis]):
        ledger.fix(atom)


def fix_value(ledger: Ledger, value: Value) -> None:
    """Nothing acts on the array any more."""
    for axis in value.axes:
        fix_axis(ledger, axis)
    ledger.one(value.factor, None)


def sliced(
    ledger: Ledger, axis: Axis, start: int, stop: int, stride: int = 1
) -> tuple[Axis, Form]:
    """Returns some indices of an axis, and the factor of them if it is only one."""
    size = len(range(start, stop, stride))
    if size == length(axis):
        return axis, ONE
    if is_constant(axis):
        return constant(size), ONE
    if stride != 1:
        fix_axis(ledger, axis)
        return fixed(size), ONE
    cut = ledger.cut_at(axis, {start, stop} - {0, length(axis)})
    segments, at = [], 0
    for segment in cut:
        if start <= at < stop:
            segments.append(segment)
        at += size_of(segment)
    if size > 1:
        return merged(segments), ONE
    # One factor of all the rest: it may not differ along units beside it.
    ledger.note([tuple(segments)])
    form = ONE
    for atom in segments[0]:
        form = form + atom.form
    return fixed(1), form


def slice_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`slice`."""
    (value,) = values
    strides = params["strides"] or [1] * len(value.axes)
    rows = zip(
        value.axes,
        params["start_indices"],
        params["limit_indices"],
        strides,
        strict=True,
    )
    pairs = [sliced(ledger, *row) for row in rows]
    return _cut(value, pairs)


def _cut(value: Value, pairs: Sequence[tuple[Axis, Form]]) -> Value:
    factor = value.factor
    for _, form in pairs:
        factor = factor + form
    return value.viewed(tuple(axis for axis, _ in pairs), factor)


def reshape_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`reshape`."""
    value, shape = values[0], params["new_sizes"]
    if 0 in shape:
        return value.viewed(tuple(map(fixed, shape)))
    return value.viewed(regrouped(ledger, value.axes, shape))


def squeeze_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`squeeze`."""
    del ledger
    gone = params["dimensions"]
    return values[0].viewed(
        tuple(axis for n, axis in enumerate(values[0].axes) if n not in gone)
    )


def expand_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`expand_dims`."""
    del ledger
    new = params["dimensions"]
    old = iter(values[0].axes)
    rank = len(values[0].axes) + len(new)
    return values[0].viewed(
        tuple(fixed(1) if n in new else next(old) for n in range(rank))
    )


def transpose_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`transpose`."""
    del ledger
    return values[0].viewed(tuple(values[0].axes[p] for p in params["permutation"]))


def broadcast_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`broadcast_in_dim`."""
    del ledger
    value, shape = values[0], params["shape"]
    axes = [constant(size) for size in shape]
    for source, target in enumerate(params["broadcast_dimensions"]):
        if length(value.axes[source]) == shape[target]:
            axes[target] = value.axes[source]
    return value.viewed(tuple(axes))


def reverse_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`rev`."""
    axes = list(values[0].axes)
    for position in params["dimensions"]:
        if not is_constant(axes[position]):
            fix_axis(ledger, axes[position])
            axes[position] = fixed(length(axes[position]))
    return values[0].viewed(tuple(axes))


def concatenate_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`concatenate`: a sum of units along one axis, a join along all others."""
    along = params["dimension"]
    values = [value for value in values if length(value.axes[along])] or values
    blank = [
        Value(
            (*value.axes[:along], fixed(1), *value.axes[along + 1 :]),
            value.factor,
            value.weights,
            value.known,
        )
        for value in values
    ]
    shape = tuple(map(length, blank[0].axes))
    rest = joined(ledger, blank, shape)
    segments = [s for value in values for s in ledger.normal(value.axes[along])]
    axes = (*rest.axes[:along], merged(segments), *rest.axes[along + 1 :])
    return Value(axes, rest.factor, rest.weights)


def stack_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`stack`: arrays behind one another along an axis that they do not have."""
    along = params["axis"]
    thin = [
        value.viewed((*value.axes[:along], fixed(1), *value.axes[along:]))
        for value in values
    ]
    known = [
        replace(new, known=old.known) for new, old in zip(thin, values, strict=True)
    ]
    return concatenate_rule(ledger, known, {"dimension": along})


def pad_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`pad`: with zeros, terms of a sum that nothing moves."""
    value, filling = values
    if not filling.zero:
        for atom in atoms_of(value.axes):
            ledger.keep_ones(atom)
        ledger.same(value.factor, filling.factor)
    axes, factor = [], value.factor
    for axis, (low, high, inner) in zip(
        value.axes, params["padding_config"], strict=True
    ):
        if low == high == inner == 0:
            axes.append(axis)
            continue
        size = length(axis) + max(length(axis) - 1, 0) * inner
        if inner:
            fix_axis(ledger, axis)
            axis = fixed(size)
        axis, form = sliced(ledger, axis, max(-low, 0), size - max(-high, 0))
        factor = factor + form
        ends = [constant(end)[0] if end > 0 else None for end in (low, high)]
        segments = [*ends[:1], *ledger.normal(axis), *ends[1:]]
        axes.append(merged([s for s in segments if s is not None]))
    return Value(tuple(axes), factor, value.weights or filling.weights)


def dynamic_slice_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`dynamic_slice`: a slice if its place is known, else nothing is claimed."""
    value, *starts = values
    pairs = []
    for axis, size, start in zip(
        value.axes, params["slice_sizes"], starts, strict=True
    ):
        pairs.append(_taken(ledger, axis, size, start.scalar))
        read_index(ledger, start)
    return _cut(value, pairs)


def _taken(
    ledger: Ledger, axis: Axis, size: int, start: float | None
) -> tuple[Axis, Form]:
    """`size` indices of an axis from one that may be known."""
    if size == length(axis):
        return axis, ONE
    if start is not None:
        at = min(max(int(start), 0), length(axis) - size)
        return sliced(ledger, axis, at, at + size)
    if is_constant(axis):
        return constant(size), ONE
    fix_axis(ledger, axis)
    return fixed(size), ONE


def read_index(ledger: Ledger, index: Value) -> None:
    """An index is a number like any other: nothing may act on it but an order."""
    for atom in atoms_of(index.axes):
        ledger.lower(atom, MONOMIAL)
        ledger.one(atom.form, atom.units)
    ledger.one(index.factor, None)


def dynamic_update_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`dynamic_update_slice`."""
    del params
    value, update, *starts = values
    for start in starts:
        read_index(ledger, start)
    if list(map(length, value.axes)) == list(map(length, update.axes)):
        return update
    return _overwritten(ledger, value, update, update.axes)


def scatter_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`scatter` and `scatter_add`: windows of whole axes stay, others are fixed."""
    value, indices, update = values
    numbers = params["dimension_numbers"]
    read_index(ledger, indices)
    looked_up = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = iter(numbers.update_window_dims)
    own = [
        fixed(1) if n in looked_up else update.axes[next(windows)]
        for n in range(len(value.axes))
    ]
    for n, axis in enumerate(update.axes):
        if n not in numbers.update_window_dims:
            fix_axis(ledger, axis)
    return _overwritten(ledger, value, update, own)


def _overwritten(
    ledger: Ledger, value: Value, update: Value, own: Sequence[Axis]
) -> Value:
    """An array with others in it: one action along whole axes, none along the rest.

    Args:
        ledger: of what is known.
        value: the array.
        update: what is written into it, or added.
        own: axes of the update, in the order of those of the array.
    """
    whole = [
        length(old) == length(new) for old, new in zip(value.axes, own, strict=True)
    ]
    for old, new, all_of_it in zip(value.axes, own, whole, strict=True):
        if not all_of_it:
            fix_axis(ledger, old)
            fix_axis(ledger, new)
    thin = [
        Value(
            tuple(
                axis if all_of_it else fixed(1)
                for axis, all_of_it in zip(axes, whole, strict=True)
            ),
            v.factor,
            v.weights,
            v.known,
        )
        for v, axes in ((value, value.axes), (update, own))
    ]
    rest = joined(ledger, thin, tuple(map(length, thin[0].axes)))
    axes = tuple(
        axis if all_of_it else fixed(length(old))
        for axis, old, all_of_it in zip(rest.axes, value.axes, whole, strict=True)
    )
    return Value(axes, rest.factor, rest.weights)


def gather_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`gather`: axes that are looked up are fixed, windows of whole axes stay."""
    value, indices = values
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    read_index(ledger, indices)
    fills = "FILL" in str(params.get("mode", "")).upper()
    filling = params.get("fill_value")
    # NaN is NaN whatever acts on it.
    if fills and filling is not None and filling == filling and filling != 0:
        # Rows that are not there are numbers of their own.
        for atom in atoms_of(value.axes):
            ledger.keep_ones(atom)
        ledger.one(value.factor, None)
    one_place = (
        indices.known is not None
        and not fills
        and indices.known.size == len(numbers.start_index_map)
        and not numbers.operand_batching_dims
    )
    starts: dict[int, float | None] = dict.fromkeys(numbers.start_index_map)
    if one_place and indices.known is not None:
        places = np.asarray(indices.known).reshape(-1)
        starts = dict(zip(numbers.start_index_map, map(float, places), strict=True))
    factor, windows = value.factor, []
    batches = dict(
        zip(
            numbers.operand_batching_dims,
            numbers.start_indices_batching_dims,
            strict=True,
        )
    )
    own = list(indices.axes[:-1])
    for position, axis in enumerate(value.axes):
        if position in batches:
            place = batches[position]
            own[place] = _paired(ledger, axis, own[place])
            continue
        size = sizes[position]
        start = starts.get(position, 0.0)
        axis, form = _taken(ledger, axis, size, start)
        factor = factor + form
        if position not in numbers.collapsed_slice_dims:
            windows.append(axis)
        for atom in atoms_of([axis]):
            ledger.roles.setdefault(atom.tag, 1)
    rank = len(windows) + len(own)
    left, right = iter(windows), iter(own)
    axes = tuple(
        next(left) if n in numbers.offset_dims else next(right) for n in range(rank)
    )
    return Value(axes, factor, value.weights or indices.weights)


def _paired(ledger: Ledger, first: Axis, second: Axis) -> Axis:
    """An axis over which lookups run side by side: nothing is claimed of it."""
    for axis in (first, second):
        if not is_still(axis):
            fix_axis(ledger, axis)
    both = is_constant(first) and is_constant(second)
    return constant(length(first)) if both else fixed(length(first))
