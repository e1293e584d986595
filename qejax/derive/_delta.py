"""How a number that is added to a leaf comes through the function.

What is added to an array is told apart as far as something downstream could make up for
it: the addend itself, with its axes in some places; its product with one kernel; or
anything, constant along some axes.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qejax.derive._graph import Graph, shape_of
from qejax.derive._ledger import Node
from qejax.derive._units import is_constant
from qejax.derive._value import Value

Letter = tuple[str, int, int]
"""An index of a leaf: its path, the axis, and the factor along that."""

Mark = tuple[Letter | None, int]
"""A factor of an axis: which index it is, `None` if all are the same; and its size."""

Marks = tuple[tuple[Mark, ...], ...]
"""Factors of every axis."""

Pairs = tuple[tuple[Letter, Letter | None], ...]
"""Indices of a kernel, and of what is summed with it."""

OTHER: Letter = ("", 0, 0)
"""An index of nothing in particular."""


class Felt(Exception):
    """Something was reached that feels the addend, and nothing makes up for it."""


@dataclass(frozen=True)
class Delta:
    """What is added to an array.

    Attributes:
        times: a number that it is multiplied by.
        marks: its indices along every axis.
        kernel: path of the leaf that it was multiplied with, and for each index of it
            that was summed over the index of the addend, `None` if that is constant.
        token: told apart from others by this if it is not the addend or a product.
    """

    times: float
    marks: Marks
    kernel: tuple[str, Pairs] | None = None
    token: int = 0

    @property
    def along(self) -> tuple[int, ...]:
        """Axes along which it is constant."""
        return tuple(
            n for n, own in enumerate(self.marks) if all(m is None for m, _ in own)
        )

    @property
    def told(self) -> bool:
        """Whether it is the addend, or a product of it with one kernel."""
        return self.token == 0


_TOKENS = itertools.count(1)


def untold(value: Value, along: Sequence[int]) -> Delta:
    """Returns a delta of an array of which only constant axes are known."""
    marks = tuple(
        ((None if n in along or size == 1 else OTHER, size),)
        for n, size in enumerate(shape_of(value))
    )
    return Delta(1.0, marks, token=next(_TOKENS))


def regroup(marks: Marks, shape: Sequence[int]) -> Marks | None:
    """Returns the marks of a reshaped array; `None` if an index would be cut."""
    rest = [mark for axis in marks for mark in axis if mark[1] > 1]
    found = []
    for size in shape:
        own: list[Mark] = []
        while size > 1:
            letter, n = rest.pop(0)
            if size % n == 0:
                own.append((letter, n))
                size //= n
            elif letter is None and n % size == 0:
                own.append((None, size))
                rest.insert(0, (None, n // size))
                size = 1
            else:
                return None
        found.append(tuple(own) or ((None, 1),))
    return tuple(found)


Views = Callable[[Node, Marks], Marks | None]


def _reshape(node: Node, marks: Marks) -> Marks | None:
    return regroup(marks, node.params["new_sizes"])


def _transpose(node: Node, marks: Marks) -> Marks | None:
    return tuple(marks[p] for p in node.params["permutation"])


def _broadcast(node: Node, marks: Marks) -> Marks | None:
    shape = node.params["shape"]
    found: list[tuple[Mark, ...]] = [((None, size),) for size in shape]
    for source, target in enumerate(node.params["broadcast_dimensions"]):
        if _size(marks[source]) == shape[target]:
            found[target] = marks[source]
    return tuple(found)


def _squeeze(node: Node, marks: Marks) -> Marks | None:
    gone = node.params["dimensions"]
    return tuple(axis for n, axis in enumerate(marks) if n not in gone)


def _slice(node: Node, marks: Marks) -> Marks | None:
    shape = shape_of(node.outputs[0])
    found = []
    for axis, size in zip(marks, shape, strict=True):
        whole = _size(axis) == size
        if not whole and any(letter is not None for letter, _ in axis):
            return None
        found.append(axis if whole else ((None, size),))
    return tuple(found)


def _same(node: Node, marks: Marks) -> Marks | None:
    del node
    return marks


VIEWS: dict[str, Views] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "slice": _slice,
    "dynamic_slice": _slice,
    **dict.fromkeys(
        (
            *("convert_element_type", "copy", "copy_p", "stop_gradient"),
            *("reduce_precision", "sharding_constraint", "optimization_barrier"),
        ),
        _same,
    ),
}
"""Operations that move entries about."""


def _size(axis: Sequence[Mark]) -> int:
    total = 1
    for _, size in axis:
        total *= size
    return total


def widened(marks: Marks, shape: Sequence[int]) -> Marks:
    """Returns the marks of an operand that is spread over a larger shape."""
    if not marks:
        return tuple(((None, size),) for size in shape)
    return tuple(
        own if _size(own) == size else ((None, size),)
        for own, size in zip(marks, shape, strict=True)
    )


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
        if other.scalar is not None and not (node.name == "div" and number == 1):
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
            count *= _size(delta.marks[n])
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
        if size != _size(axis):
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
