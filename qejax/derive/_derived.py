"""What `derive_spec` returns: a weight space, and why it is what it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qejax._typing import Theta
from qejax.derive._explain import Row, table
from qejax.derive._picture import draw
from qejax.spaces import Leaf, Shift, UnitSpace, WeightSpec
from qejax.testing import Deficit


@dataclass(frozen=True)
class Derived:
    """A weight space that was derived, with its explanation.

    Attributes:
        spec: the weight space.
        rows: one for each unit space and shift: size, group, what it moves, and the
            operation that limits it.
        free: paths of leaves that the function never reads: whatever they are, it is
            the same. The spec leaves them alone.
        unsupported: operations without a rule, as `"fft at model.py:12"`, and how often
            they read something that depends on weights; nothing acts on that.
        inputs: how inputs move whose axes were declared free, by number.
        outputs: how outputs move whose axes were declared free, by number.
        theta: the weights that were derived from; of a Flax module its variables.
        apply: the function of them, `(theta, *inputs)`.
        deficit: directions that keep the function and are not in the group, where they
            were counted.
        checked: whether elements of the group were seen to keep the function. Not if
            none were drawn, or if it amplifies rounding of its weights so much that
            nothing can be seen. To 1e-10 of a function in float64, to what
            `qejax.testing.tolerance_of` says of one with fewer digits.
        uncounted: why directions could not be counted; random inputs like those given
            may be none that the function takes.
        factors: names of spaces of one factor, beside units or of whole leaves.
    """

    spec: WeightSpec
    rows: tuple[Row, ...]
    free: tuple[str, ...]
    unsupported: Mapping[str, int]
    inputs: Mapping[int, Leaf]
    outputs: Mapping[int, Leaf]
    theta: Theta = field(repr=False)
    apply: Callable[..., Any] = field(repr=False)
    deficit: Deficit | None = None
    factors: frozenset[str] = frozenset()
    checked: bool = False
    uncounted: str = ""

    def with_deficit(self, deficit: Deficit) -> "Derived":
        """Returns the same with directions counted."""
        return replace(self, deficit=deficit)

    @property
    def for_models(self) -> WeightSpec:
        """The part of the group that normal forms, layers and models can read.

        They fix signs by leaves that feel no other sign. A sign of a whole stream, or
        of every coordinate of one between norms with a scale, has none: it is left out,
        and what reads the weights may tell it.
        """
        hosts = {space.per for space in self.spec.spaces if space.group == "absorbed"}
        gone = {
            space.name
            for space in self.spec.spaces
            if space.group == "sign" and self._is_factor(space)
        }
        spaces = tuple(
            replace(space, group="permutation")
            if space.group == "sign" and space.name in hosts
            else space
            for space in self.spec.spaces
            if space.name not in gone
        )
        leaves = tuple(_without(leaf, gone) for leaf in self.spec.leaves)
        return WeightSpec(spaces, leaves, self._shifts_without(gone))

    def _is_factor(self, space: UnitSpace) -> bool:
        """Whether it is a factor beside units, or of whole leaves."""
        return space.name in self.factors

    def _shifts_without(self, gone: set[str]) -> tuple[Shift, ...]:
        """Shifts of leaves whose views have lost some axes of one index."""
        lost = {
            leaf.path: [n for n, axis in enumerate(leaf.axes) if axis.space in gone]
            for leaf in self.spec.leaves
        }
        return tuple(_renumbered(shift, lost) for shift in self.spec.shifts)

    def table(self, width: int = 120) -> str:
        """Returns the explanation as text; repeated blocks are one line.

        Args:
            width: characters that a line has at most.
        """
        lines = [table(self.rows, width)] if self.rows else ["no symmetry was found"]
        if self.free:
            lines.append(f"never read, free: {_list(self.free)}")
        if self.unsupported:
            lines.append(f"no rule, taken as fixed: {_list([*self.unsupported])}")
        if not self.checked:
            lines.append("not checked on numbers: none drawn, or rounding hides it")
        if self.uncounted:
            lines.append(f"directions not counted: {self.uncounted}")
        if self.deficit is not None:
            lines.append(self.deficit.message())
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def draw(self, path: str | Path) -> None:
        """Draws which leaves each unit space moves.

        Args:
            path: of the file; its ending says the format.

        Raises:
            ImportError: without matplotlib.
        """
        draw(self.rows, path)


def _without(leaf: Leaf, gone: set[str]) -> Leaf:
    """The leaf without the axes of one index of some spaces."""
    axes = tuple(axis for axis in leaf.axes if axis.space not in gone)
    view = tuple(axis.size for axis in axes)
    stored = leaf.stored
    return replace(leaf, axes=axes, shape=None if view == stored else stored)


def _renumbered(shift: Shift, lost: Mapping[str, list[int]]) -> Shift:
    """The shift of a leaf, along and through axes that some have left."""
    gone = lost[shift.leaf]
    along = tuple(n - sum(m < n for m in gone) for n in shift.along if n not in gone)
    routes = []
    for route in shift.routes:
        if route.kernel is None:
            routes.append(route)
            continue
        left, rest = route.subscripts.split(",")
        middle, right = rest.split("->")
        own = [n for n, _ in enumerate(left)]
        kept = [n for n in range(len(own) + len(shift.along)) if n not in shift.along]
        left = _cut(left, [i for i, n in enumerate(kept) if n in gone])
        middle = _cut(middle, lost[route.kernel])
        right = _cut(right, lost[route.bias])
        routes.append(replace(route, subscripts=f"{left},{middle}->{right}"))
    return replace(shift, along=along, routes=tuple(routes))


def _cut(letters: str, gone: list[int]) -> str:
    return "".join(letter for n, letter in enumerate(letters) if n not in gone)


def _list(names: Any, most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)})"
