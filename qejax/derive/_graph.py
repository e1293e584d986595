"""The operations of a function as a graph, run on numbers where a question needs them.

Two facts about arrays are settled by trial: whether their sum over an axis is one or
zero (softmax, centring), and whether what is computed from an array alone feels a
number that is added along an axis (softmax, layer norm, however they are written).
Weights are drawn at random, so that neither holds by accident.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qejax.derive._ledger import Node
from qejax.derive._numbers import compute
from qejax.derive._units import length
from qejax.derive._value import Value

_CLOSE = 1e-8
_SIZES = (0.3, 1.0, 3.0)

NEAR = 16
"""Operations before an array among which a sum is looked for."""

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
        """Returns what an array sums to along an axis, if everywhere the same."""
        if not self._may_sum(value):
            return None
        numbers = self.sample(value)
        if numbers is None or not np.all(np.isfinite(numbers)):
            return None
        # What is clipped, or a choice, sums to the same by accident.
        if np.all(numbers == np.round(numbers)):
            return None
        sums = np.sum(numbers, axis)
        size = float(np.max(np.sum(np.abs(numbers), axis), initial=0))
        first = float(sums.flat[0]) if sums.size else 0.0
        if size == 0 or np.any(np.abs(sums - first) > _CLOSE * size):
            return None
        return round(first, 6) + 0.0

    def _may_sum(self, value: Value) -> bool:
        """Whether something was divided by a sum, or a sum taken off, shortly before.

        Nothing is run for what cannot be centred or a distribution.
        """
        names: set[str] = set()
        waiting, count = [value], 0
        while waiting and count < NEAR:
            number = self.makers.get(id(waiting.pop(0)))
            if number is not None:
                count += 1
                names.add(self.nodes[number].name)
                waiting += self.nodes[number].inputs
        return "reduce_sum" in names and bool(names & {"sub", "div"})

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
