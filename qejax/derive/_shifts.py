"""Translations of leaves that the function does not see, found one leaf at a time.

A number is added to a leaf, the same along some of its axes, and followed: through what
only moves entries about, through a product with one kernel, through weighted means. It
ends where a bias can take it off again, or where nothing feels it: softmax, centring.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from qejax.derive._delta import (
    VIEWS,
    Delta,
    Felt,
    Marks,
    widened,
)
from qejax.derive._graph import Graph, shape_of
from qejax.derive._ledger import Ledger, Node
from qejax.derive._passing import looked_up, passed
from qejax.derive._value import Value


@dataclass(frozen=True)
class Taken:
    """Where an addend is taken off again.

    Attributes:
        leaf: path of the bias.
        delta: what arrives there.
        marks: of the bias, where the delta has its own.
    """

    leaf: str
    delta: Delta
    marks: Marks


@dataclass(frozen=True)
class Free:
    """An addend that the function does not see.

    Attributes:
        leaf: path of the leaf that it is added to.
        along: axes and factors along which it is constant.
        taken: where it is taken off again.
    """

    leaf: str
    along: tuple[tuple[int, int], ...]
    taken: tuple[Taken, ...]


def own_marks(ledger: Ledger, path: str, value: Value) -> Marks | None:
    """Returns the indices of a leaf; `None` of one whose axes are sums."""
    marks = []
    for n, axis in enumerate(map(ledger.normal, value.axes)):
        if len(axis) != 1:
            return None
        marks.append(tuple(((path, n, f), a.size) for f, a in enumerate(axis[0])))
    return tuple(marks)


def free_addends(
    graph: Graph, leaves: Mapping[str, Value], marks: Mapping[str, Marks]
) -> list[Free]:
    """Returns addends of leaves that the function does not see.

    Args:
        graph: of the function.
        leaves: by path, those that may be shifted or take a shift off.
        marks: of the leaves.
    """
    views = _views(graph, leaves, marks)
    reads = {path: _reads(graph, leaves[path], views) for path in marks}
    follower = _Follower(graph, views, reads)
    found: list[Free] = []
    for path, own in marks.items():
        known: list[set[tuple[int, int]]] = []
        for along in _choices(own):
            if any(one <= {*along} for one in known):
                continue
            taken = follower.follow(leaves[path], _constant(own, along))
            if taken is not None and not _reverse(found, path, taken):
                found.append(Free(path, along, tuple(taken)))
                known.append({*along})
    return found


def _choices(marks: Marks) -> Iterator[tuple[tuple[int, int], ...]]:
    """Factors along which an addend may be constant: none of them, or one axis."""
    yield ()
    for n, axis in enumerate(marks):
        for count in range(1, len(axis) + 1):
            for chosen in combinations(range(len(axis)), count):
                yield tuple((n, f) for f in chosen)


def _constant(marks: Marks, along: Sequence[tuple[int, int]]) -> Marks:
    return tuple(
        tuple(
            (None if (n, f) in along or size == 1 else letter, size)
            for f, (letter, size) in enumerate(axis)
        )
        for n, axis in enumerate(marks)
    )


def _reverse(found: Sequence[Free], path: str, taken: Sequence[Taken]) -> bool:
    """Whether this is a shift that is known, seen from the other of two leaves."""
    plain = [t.leaf for t in taken if t.delta.kernel is None]
    return len(plain) == len(taken) == 1 and any(
        free.leaf == plain[0] and [t.leaf for t in free.taken] == [path]
        for free in found
    )


def _views(
    graph: Graph, leaves: Mapping[str, Value], marks: Mapping[str, Marks]
) -> dict[int, tuple[str, Marks]]:
    """Views of leaves by the identity of the value, with the indices of the leaf."""
    views = {id(leaves[path]): (path, own) for path, own in marks.items()}
    for node in graph.nodes:
        source = views.get(id(node.inputs[0])) if node.inputs else None
        if source is None:
            continue
        if node.name == "gather":
            views[id(node.outputs[0])] = (source[0], looked_up(node, source[1])[0])
        if node.name not in VIEWS or node.outputs[0].leaf is None:
            continue
        moved = VIEWS[node.name](node, source[1])
        if moved is not None:
            views[id(node.outputs[0])] = (source[0], moved)
    return views


def _reads(graph: Graph, leaf: Value, views: Mapping[int, tuple[str, Marks]]) -> int:
    """How many operations read a leaf or a view of it."""
    count, waiting = 0, [leaf]
    while waiting:
        value = waiting.pop()
        for number in graph.readers.get(id(value), []):
            node = graph.nodes[number]
            if id(node.outputs[0] if node.outputs else node) in views:
                waiting.append(node.outputs[0])
            else:
                count += 1
    return count


class _Follower:
    """Follows addends; remembers which arrays do not feel what is constant."""

    def __init__(
        self,
        graph: Graph,
        views: Mapping[int, tuple[str, Marks]],
        reads: Mapping[str, int],
    ) -> None:
        self.graph, self.views, self.reads = graph, views, reads
        self._ends: dict[tuple[int, tuple[int, ...]], bool] = {}

    def follow(self, leaf: Value, marks: Marks) -> list[Taken] | None:
        """Returns where an addend is taken off; `None` if something feels it."""
        taken: list[Taken] = []
        passing: list[tuple[int, tuple[int, ...]]] = []
        try:
            ended = self._run(leaf, Delta(1.0, marks), taken, passing)
        except Felt:
            ended = False
        if not taken:
            self._ends.update(dict.fromkeys(passing, ended))
        return taken if ended else None

    def _run(
        self,
        leaf: Value,
        delta: Delta,
        taken: list[Taken],
        passing: list[tuple[int, tuple[int, ...]]],
    ) -> bool:
        deltas = {id(leaf): delta}
        waiting: list[int] = []
        live: dict[int, set[int]] = {}
        self._spread(leaf, delta, waiting, live)
        while waiting:
            number = heapq.heappop(waiting)
            while waiting and waiting[0] == number:
                heapq.heappop(waiting)
            sources = {v for n in (number, *waiting) for v in live.get(n, set())}
            if len(sources) == 1 and not taken:
                (source,) = sources
                if not deltas[source].told:
                    key = (source, deltas[source].along)
                    if key in self._ends:
                        return self._ends[key]
                    passing.append(key)
            node = self.graph.nodes[number]
            own = {
                n: deltas[id(v)]
                for n, v in enumerate(node.inputs)
                if id(v) in live[number]
            }
            if self._take(node, own, taken):
                continue
            results = passed(self.graph, node, own, self.views)
            for value, result in zip(node.outputs, results, strict=True):
                if result is not None:
                    deltas[id(value)] = result
                    self._spread(value, result, waiting, live)
        return True

    def _spread(
        self, value: Value, delta: Delta, waiting: list[int], live: dict[int, set[int]]
    ) -> None:
        """Puts the readers that may feel a delta on the list."""
        if id(value) in self.graph.results:
            raise Felt
        blind = self.graph.blind(value, delta.along) if delta.along else None
        for number in self.graph.readers.get(id(value), []):
            if blind is None or number not in blind:
                heapq.heappush(waiting, number)
                live.setdefault(number, set()).add(id(value))

    def _take(
        self, node: Node, deltas: Mapping[int, Delta], taken: list[Taken]
    ) -> bool:
        """Takes an addend off a bias that is added to it."""
        if node.name not in ("add", "add_any") or len(deltas) != 1:
            return False
        ((number, delta),) = deltas.items()
        view = self.views.get(id(node.inputs[1 - number]))
        if view is None or not delta.told or abs(delta.times - 1) > 1e-9:
            return False
        path, marks = view
        if self.reads[path] != 1:
            return False
        shape = shape_of(node.outputs[0])
        mine, theirs = widened(delta.marks, shape), widened(marks, shape)
        if not _fits(mine, theirs):
            return False
        taken.append(Taken(path, replace(delta, marks=mine), theirs))
        return True


def _fits(delta: Marks, bias: Marks) -> bool:
    """Whether a bias has every index that an addend depends on, side by side."""
    for own, other in zip(delta, bias, strict=True):
        if all(letter is None for letter, _ in own):
            continue
        if [size for _, size in own] != [size for _, size in other]:
            return False
        if any(
            a is not None and b is None
            for (a, _), (b, _) in zip(own, other, strict=True)
        ):
            return False
    return True
