"""How a number that is added to a leaf comes through the function.

What is added to an array is told apart as far as something downstream could make up for
it: the addend itself, with its axes in some places; its product with one kernel; or
anything, constant along some axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qejax.derive._graph import shape_of
from qejax.derive._ledger import Node
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
    token: object = None

    @property
    def along(self) -> tuple[int, ...]:
        """Axes along which it is constant."""
        return tuple(
            n for n, own in enumerate(self.marks) if all(m is None for m, _ in own)
        )

    @property
    def told(self) -> bool:
        """Whether it is the addend, or a product of it with one kernel."""
        return self.token is None


def untold(value: Value, along: Sequence[int]) -> Delta:
    """Returns a delta of an array of which only constant axes are known."""
    marks = tuple(
        ((None if n in along or size == 1 else OTHER, size),)
        for n, size in enumerate(shape_of(value))
    )
    return Delta(1.0, marks, token=object())


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
        if extent(marks[source]) == shape[target]:
            found[target] = marks[source]
    return tuple(found)


def _squeeze(node: Node, marks: Marks) -> Marks | None:
    gone = node.params["dimensions"]
    return tuple(axis for n, axis in enumerate(marks) if n not in gone)


def _slice(node: Node, marks: Marks) -> Marks | None:
    shape = shape_of(node.outputs[0])
    found = []
    for axis, size in zip(marks, shape, strict=True):
        whole = extent(axis) == size
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


def extent(axis: Sequence[Mark]) -> int:
    total = 1
    for _, size in axis:
        total *= size
    return total


def widened(marks: Marks, shape: Sequence[int]) -> Marks:
    """Returns the marks of an operand that is spread over a larger shape."""
    if not marks:
        return tuple(((None, size),) for size in shape)
    return tuple(
        own if extent(own) == size else ((None, size),)
        for own, size in zip(marks, shape, strict=True)
    )
