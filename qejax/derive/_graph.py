"""The operations of a function as a graph, run on numbers where a question needs them.

Two facts about arrays are settled by trial: whether their sum over an axis is one or
zero (softmax, centring), and whether what is computed from an array alone feels a
number that is added along an axis (softmax, layer norm, however they are written).
Weights are drawn at random, so that neither holds by accident.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qejax.derive._ledger import Node
from qejax.derive._numbers import compute
from qejax.derive._units import is_constant, length
from qejax.derive._value import Value

_CLOSE = 1e-8
_SIZES = (0.3, 1.0, 3.0)

LARGEST = 400
"""Operations that are run to see whether a number that is added is felt."""


def shape_of(value: Value) -> tuple[int, ...]:
    """Returns the shape of an array."""
    return tuple(map(length, value.axes))


class Graph:
    """Operations, who reads what, and samples of arrays.

    Args:
        nodes: in order.
        results: what the function returns.
        given: numbers of weights and inputs.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        results: Sequence[Value],
        given: Mapping[int, np.ndarray],
    ) -> None:
        self.nodes = list(nodes)
        self.results = {id(value) for value in results}
        self.readers: dict[int, list[int]] = {}
        self.makers: dict[int, int] = {}
        for number, node in enumerate(self.nodes):
            for value in node.inputs:
                self.readers.setdefault(id(value), []).append(number)
            for value in node.outputs:
                self.makers[id(value)] = number
        self._samples: dict[int, Any] = dict(given)
        self._blind: dict[tuple[int, tuple[int, ...]], frozenset[int] | None] = {}
        self._done = 0

    def sample(self, value: Value) -> np.ndarray | None:
        """Returns numbers of an array at random weights; `None` behind a loop."""
        if value.known is not None:
            return value.known
        last = self.makers.get(id(value), -1)
        while self._done <= last:
            node = self.nodes[self._done]
            self._done += 1
            operands = [
                self.sample(v) if id(v) not in self._samples else self._samples[id(v)]
                for v in node.inputs
            ]
            self._samples.update(
                zip(map(id, node.outputs), run(node, operands), strict=True)
            )
        return self._samples.get(id(value))

    def sums_to(self, value: Value, axis: int) -> float | None:
        """Returns what an array sums to along an axis if that is seen: one, or zero.

        One of what was divided by its own sum, zero of what its own mean was taken off,
        whatever was done to it after that is the same along the axis.
        """
        number = self.makers.get(id(value))
        if number is None:
            return None
        node = self.nodes[number]
        if node.name in _BACK:
            before = _BACK[node.name](node, axis)
            return None if before is None else self.sums_to(node.inputs[0], before)
        shape = shape_of(value)
        if len(node.inputs) != 2 or any(shape_of(v) == () for v in node.inputs[:1]):
            return None
        first, second = node.inputs
        if node.name == "div" and self._sum_of(first, second, axis, 1.0, len(shape)):
            return 1.0
        if node.name == "sub" and self._sum_of(
            first, second, axis, 1 / shape[axis], len(shape)
        ):
            return 0.0
        if node.name in ("mul", "div"):
            for one, other in ((first, second), (second, first))[
                : 1 + (node.name == "mul")
            ]:
                alike = not other.axes or is_constant(other.axes[axis])
                same = shape_of(one) == shape
                if alike and same and self.sums_to(one, axis) == 0.0:
                    return 0.0
        return None

    def _sum_of(
        self, source: Value, value: Value, axis: int, times: float, rank: int
    ) -> bool:
        """Whether a value is `times` the sum of another one over an axis, spread."""
        found = 1.0
        while True:
            number = self.makers.get(id(value))
            if number is None:
                return False
            node = self.nodes[number]
            if node.name == "reduce_sum":
                over = tuple(node.params["axes"]) == (axis,)
                return over and node.inputs[0] is source and abs(found - times) < 1e-9
            if node.name in ("mul", "div") and node.inputs[1].scalar:
                by = float(node.inputs[1].scalar)
                found *= by if node.name == "mul" else 1 / by
            elif node.name not in _SPREAD or not _in_place(node, axis, rank):
                return False
            value = node.inputs[0]

    def blind(self, value: Value, along: tuple[int, ...]) -> frozenset[int] | None:
        """Returns readers that do not feel what is constant along some axes.

        They are the operations that compute something of the array and of known numbers
        alone; what the rest of the function sees of them does not change if a number is
        added that is constant along the axes.
        """
        key = (id(value), along)
        if key not in self._blind:
            self._blind[key] = self._find_blind(value, along)
        return self._blind[key]

    def _find_blind(
        self, value: Value, along: tuple[int, ...]
    ) -> frozenset[int] | None:
        region = self._region(value)
        if not any(self.nodes[n].name.startswith(("reduce", "dot")) for n in region):
            return None
        inside = {id(v) for n in region for v in self.nodes[n].outputs}
        seen = [
            v
            for n in region
            for v in self.nodes[n].outputs
            if id(v) in self.results
            or any(r not in region for r in self.readers.get(id(v), []))
        ]
        if not seen or not inside:
            return None
        return frozenset(region) if self._unmoved(region, value, seen, along) else None

    def _unmoved(
        self,
        region: Sequence[int],
        value: Value,
        seen: Sequence[Value],
        along: tuple[int, ...],
    ) -> bool:
        """Whether adding a constant along axes changes nothing that others see.

        On random numbers of several sizes: at some of them clipped values are not.
        """
        draw = np.random.default_rng(1)
        shape = shape_of(value)
        thin = [1 if n in along else size for n, size in enumerate(shape)]
        for size in _SIZES:
            numbers = size * draw.normal(size=shape)
            added = size * draw.normal(size=thin)
            before = self._run_region(region, value, numbers)
            after = self._run_region(region, value, numbers + added)
            if not all(_close(before.get(id(v)), after.get(id(v))) for v in seen):
                return False
        return True

    def _region(self, value: Value) -> list[int]:
        inside = {id(value)}
        region: list[int] = []
        waiting = sorted(self.readers.get(id(value), []))
        while waiting and len(region) < LARGEST:
            number = waiting.pop(0)
            node = self.nodes[number]
            if number in region or node.primitive is None:
                continue
            if not _smooth(node):
                continue
            if all(id(v) in inside or v.known is not None for v in node.inputs):
                region.append(number)
                inside |= {id(v) for v in node.outputs}
                new = [r for v in node.outputs for r in self.readers.get(id(v), [])]
                waiting = sorted({*waiting, *new})
        return region

    def _run_region(
        self, region: Sequence[int], value: Value, numbers: np.ndarray
    ) -> dict[int, Any]:
        found: dict[int, Any] = {id(value): numbers}
        for number in region:
            node = self.nodes[number]
            operands = [found.get(id(v), v.known) for v in node.inputs]
            found.update(zip(map(id, node.outputs), run(node, operands), strict=True))
        return found


_SPREAD = ("broadcast_in_dim", "reshape", "convert_element_type", "stop_gradient")
"""What stands between a sum over an axis and what it is compared with."""


def _in_place(node: Node, axis: int, rank: int) -> bool:
    """Whether other axes stay where they are when the summed one comes back."""
    if node.name == "broadcast_in_dim":
        places = tuple(node.params["broadcast_dimensions"])
        kept = tuple(n for n in range(rank) if n != axis)
        return places in (kept, tuple(range(rank)))
    if node.name == "reshape":
        before = [n for n in shape_of(node.inputs[0]) if n != 1]
        return before == [n for n in node.params["new_sizes"] if n != 1]
    return True


def _reshaped_from(node: Node, axis: int) -> int | None:
    """The axis of the operand of a reshape that an axis of the result is."""
    before, after = shape_of(node.inputs[0]), tuple(node.params["new_sizes"])
    ahead = math.prod(after[:axis])
    for n, size in enumerate(before):
        if size == after[axis] and math.prod(before[:n]) == ahead:
            return n
    return None


_BACK: dict[str, Callable[[Node, int], int | None]] = {
    "reshape": _reshaped_from,
    "transpose": lambda node, axis: node.params["permutation"][axis],
    **dict.fromkeys(
        ("convert_element_type", "stop_gradient", "copy"), lambda node, axis: axis
    ),
}
"""Views through which an axis is followed back."""

_KINKED = (
    *("clamp", "min", "round", "sign", "floor", "ceil", "sort", "top_k", "argmax"),
    *("argmin", "lt", "le", "gt", "ge", "eq", "ne", "rem", "is_finite"),
)
"""Operations that are constant somewhere: trials may not see where they are not."""


def _smooth(node: Node) -> bool:
    """Whether what holds at random numbers holds everywhere."""
    if node.name in _KINKED:
        return False
    if node.name == "max":
        return any(v.unsized for v in node.inputs)
    return node.name != "select_n" or node.inputs[0].known is not None


def _close(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return False
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    size = max(float(np.max(np.abs(a), initial=0)), 1e-300)
    return bool(
        np.all(np.isfinite(a)) and np.max(np.abs(a - b), initial=0) <= _CLOSE * size
    )


def run(node: Node, operands: Sequence[Any]) -> list[Any]:
    """Returns the results of an operation; `None` where an operand is not known."""
    if node.primitive is None or any(x is None for x in operands):
        return [None] * len(node.outputs)
    return compute(node.primitive, node.params, operands, node.dtypes)
