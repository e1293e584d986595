"""How what is added to an array comes through an operation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qejax.derive._delta import (
    VIEWS,
    Delta,
    Felt,
    Letter,
    Marks,
    Pairs,
    extent,
    untold,
    widened,
)
from qejax.derive._graph import Graph, shape_of
from qejax.derive._ledger import Node
from qejax.derive._units import is_constant
from qejax.derive._value import Value


def passed(
    graph: Graph,
    node: Node,
    deltas: Mapping[int, Delta],
    leaf_marks: Mapping[int, tuple[str, Marks]],
) -> list[Delta | None]:
    """Returns what is added to the results of an operation.

    Args:
        graph: of the function.
        node: the operation.
        deltas: by operand, of those that have one.
        leaf_marks: of views of leaves.

    Raises:
        Felt: if nothing is known of it.
    """
    name = node.name
    if name in VIEWS:
        if [*deltas] != [0]:
            raise Felt
        delta = deltas[0]
        marks = VIEWS[name](node, delta.marks)
        if marks is not None:
            return [replace(delta, marks=marks)]
        if name not in ("slice", "dynamic_slice", "reshape"):
            raise Felt
        return [untold(node.outputs[0], ())]
    if name in _RULES:
        return [_RULES[name](graph, node, deltas, leaf_marks)]
    raise Felt


def _sum_of_two(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    del graph, leaf_marks
    shape = shape_of(node.outputs[0])
    signs = (1.0, -1.0 if node.name == "sub" else 1.0)
    own = [
        replace(d, times=signs[n] * d.times, marks=widened(d.marks, shape))
        for n, d in deltas.items()
    ]
    if len(own) == 1:
        return own[0]
    first, second = own
    alike = (first.marks, first.kernel, first.token) == (
        second.marks,
        second.kernel,
        second.token,
    )
    if not alike:
        both = [n for n in first.along if n in second.along]
        return untold(node.outputs[0], both)
    times = first.times + second.times
    return None if abs(times) < 1e-9 else replace(first, times=times)


def _times(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    del graph, leaf_marks
    shape = shape_of(node.outputs[0])
    if len(deltas) == 1:
        ((number, delta),) = deltas.items()
        other = node.inputs[1 - number]
        marks = widened(delta.marks, shape)
        if other.scalar and not (node.name == "div" and number == 1):
            by = other.scalar if node.name == "mul" else 1 / other.scalar
            return replace(delta, times=delta.times * by, marks=marks)
        if node.name == "div" and number == 1:
            raise Felt
    if len(deltas) > 1:
        raise Felt
    return untold(node.outputs[0], _common(node, deltas, shape))


def _common(
    node: Node, deltas: Mapping[int, Delta], shape: tuple[int, ...]
) -> list[int]:
    """Axes along which a product with one delta is constant: both factors are."""
    ((number, delta),) = deltas.items()
    other = node.inputs[1 - number]
    along = replace(delta, marks=widened(delta.marks, shape)).along
    return [n for n in along if _constant_at(other, n, len(shape))]


def _constant_at(value: Value, axis: int, rank: int) -> bool:
    return len(value.axes) < rank or is_constant(value.axes[axis])


def _summed(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    del graph, leaf_marks
    (delta,) = deltas.values()
    gone = node.params["axes"]
    kept = tuple(axis for n, axis in enumerate(delta.marks) if n not in gone)
    if all(n in delta.along for n in gone):
        count = 1
        for n in gone:
            count *= extent(delta.marks[n])
        return replace(delta, marks=kept, times=delta.times * count)
    left = [n for n, axis in enumerate(kept) if all(m is None for m, _ in axis)]
    return untold(node.outputs[0], left)


def _extreme(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    del graph, leaf_marks
    (delta,) = deltas.values()
    gone = node.params["axes"]
    if not all(n in delta.along for n in gone):
        raise Felt
    kept = tuple(axis for n, axis in enumerate(delta.marks) if n not in gone)
    return replace(delta, marks=kept)


def _larger(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    del graph, leaf_marks
    ((number, delta),) = deltas.items() if len(deltas) == 1 else [(0, None)]
    other = node.inputs[1 - number]
    if delta is None or other.known is None or not np.all(np.isneginf(other.known)):
        raise Felt
    return replace(delta, marks=widened(delta.marks, shape_of(node.outputs[0])))


def _chosen(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    """What is masked out stays so: far below everything, whatever is added."""
    del graph, leaf_marks
    if len(deltas) != 1 or 0 in deltas:
        raise Felt
    ((number, delta),) = deltas.items()
    others = [v for n, v in enumerate(node.inputs) if n not in (0, number)]
    which = node.inputs[0].known
    low = all(v.known is not None and np.all(v.known <= _LOW) for v in others)
    if not low or (
        which is None and not all(np.all(np.isinf(v.known)) for v in others)
    ):
        raise Felt
    return replace(delta, marks=widened(delta.marks, shape_of(node.outputs[0])))


_LOW = -1e8


def _product(
    graph: Graph,
    node: Node,
    deltas: Mapping[int, Delta],
    leaf_marks: Mapping[int, tuple[str, Marks]],
) -> Delta | None:
    """A contraction: with probabilities, with what is centred, with a kernel."""
    if len(deltas) != 1:
        raise Felt
    ((number, delta),) = deltas.items()
    contracted, batch = node.params["dimension_numbers"]
    other = node.inputs[1 - number]
    mine, theirs = contracted[number], contracted[1 - number]
    both = [(a, b) for a, b in zip(mine, theirs, strict=True) if a in delta.along]
    if any(graph.sums_to(other, b) == 0.0 for _, b in both):
        return None
    free = [n for n in range(len(delta.marks)) if n not in (*mine, *batch[number])]
    rest = [n for n in range(len(other.axes)) if n not in (*theirs, *batch[1 - number])]
    shape = shape_of(other)
    kernel = leaf_marks.get(id(other))
    own = [delta.marks[n] for n in (*batch[number], *free)]
    if kernel is not None and delta.told and delta.kernel is None and not batch[0]:
        placed = _with_kernel(delta, mine, kernel[1], theirs)
        if placed is not None and not any(m for axis in own for m, _ in axis):
            added = [kernel[1][n] for n in rest]
            marks = own + added if number == 0 else added + own
            return Delta(delta.times, tuple(marks), (kernel[0], placed))
    ones = len(both) == len(mine) == 1 and graph.sums_to(other, both[0][1])
    blank = [((None, shape[n]),) for n in rest]
    if ones and delta.told:
        order = len(batch[number])
        marks = own + blank if number == 0 else own[:order] + blank + own[order:]
        return replace(delta, times=delta.times * float(ones), marks=tuple(marks))
    constant = [
        all(m is None for m, _ in delta.marks[n]) and shape_axis_constant
        for n, shape_axis_constant in [
            *(
                (n, _paired_constant(other, batch, number, i))
                for i, n in enumerate(batch[number])
            ),
            *((n, True) for n in free),
        ]
    ]
    sides = [is_constant(other.axes[n]) for n in rest]
    order = len(batch[number])
    flags = (
        constant + sides if number == 0 else constant[:order] + sides + constant[order:]
    )
    return untold(node.outputs[0], [n for n, flag in enumerate(flags) if flag])


def _paired_constant(other: Value, batch: Any, number: int, place: int) -> bool:
    return is_constant(other.axes[batch[1 - number][place]])


def _with_kernel(
    delta: Delta, mine: Sequence[int], kernel: Marks, theirs: Sequence[int]
) -> Pairs | None:
    """For each index of the kernel that is summed over, that of the addend."""
    pairs: list[tuple[Letter, Letter | None]] = []
    for a, b in zip(mine, theirs, strict=True):
        own, other = delta.marks[a], kernel[b]
        if all(letter is None for letter, _ in own):
            own = tuple((None, size) for _, size in other)
        if [size for _, size in own] != [size for _, size in other]:
            return None
        for (letter, _), (index, _) in zip(own, other, strict=True):
            if index is None:
                return None
            pairs.append((index, letter))
    letters = [letter for _, letter in pairs if letter is not None]
    everywhere = [m for axis in delta.marks for m, _ in axis if m is not None]
    return tuple(pairs) if sorted(letters) == sorted(everywhere) else None


def looked_up(node: Node, marks: Marks) -> tuple[Marks, bool]:
    """Returns the marks of rows of a table, and whether an index of it was looked up.

    An index of the axis that is looked up is left out: all rows are one.
    """
    numbers, sizes = node.params["dimension_numbers"], node.params["slice_sizes"]
    windows, gone = [], False
    for n, (axis, size) in enumerate(zip(marks, sizes, strict=True)):
        if size != extent(axis):
            gone |= any(letter is not None for letter, _ in axis)
            axis = ((None, size),)
        if n not in numbers.collapsed_slice_dims:
            windows.append(axis)
    shape, left = shape_of(node.outputs[0]), iter(windows)
    return tuple(
        next(left) if n in numbers.offset_dims else ((None, size),)
        for n, size in enumerate(shape)
    ), gone


def _rows(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    """Rows of a table: the same is added to each."""
    del graph, leaf_marks
    if [*deltas] != [0] or node.params["dimension_numbers"].operand_batching_dims:
        raise Felt
    delta = deltas[0]
    marks, gone = looked_up(node, delta.marks)
    if not gone:
        return replace(delta, marks=marks)
    # Which row is added where is not told; only windows stay constant.
    windows = node.params["dimension_numbers"].offset_dims
    along = [n for n in windows if all(letter is None for letter, _ in marks[n])]
    return untold(node.outputs[0], along)


def _beside(
    graph: Graph, node: Node, deltas: Mapping[int, Delta], leaf_marks: Any
) -> Delta | None:
    """One of several arrays behind one another, or with something around it."""
    del graph, leaf_marks
    shapes = [shape_of(v) for v in (*node.inputs[:1], *node.outputs)]
    grown = {n for n, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b}
    grown |= {node.params.get("dimension", -1)}
    along = set.intersection(*({*delta.along} for delta in deltas.values()))
    return untold(node.outputs[0], sorted(along - grown))


_RULES: dict[str, Any] = {
    **dict.fromkeys(("add", "sub", "add_any"), _sum_of_two),
    **dict.fromkeys(("mul", "div"), _times),
    "reduce_sum": _summed,
    "reduce_max": _extreme,
    "reduce_min": _extreme,
    "max": _larger,
    "select_n": _chosen,
    "dot_general": _product,
    "gather": _rows,
    "concatenate": _beside,
    "pad": _beside,
}
"""How an addend comes through what is no view."""


def negated(delta: Delta) -> Delta:
    """Returns the delta of the negative."""
    return replace(delta, times=-delta.times)


_RULES["neg"] = lambda graph, node, deltas, leaf_marks: negated(
    next(iter(deltas.values()))
)
