"""From a start to a local minimum: unit spaces in turn, each by its best element."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array, Leaves, Scalar
from qejax.groups import GROUPS
from qejax.match._best import best_of
from qejax.match._permuting import distances
from qejax.spaces import (
    Elements,
    WeightSpec,
    act_shift,
    move_space,
    mul_space,
    touching,
)

ENOUGH = 1e-6
"""Of the distance: a sweep that gains less is the last one."""


class State(NamedTuple):
    """An element, what it makes of the second network, and how far that is.

    Attributes:
        g: the element.
        leaves: of the second network, moved by it.
        left: squared distance by leaf.
        going: whether the last sweep changed something.
    """

    g: Elements
    leaves: Leaves
    left: dict[str, Array]
    going: Array

    @property
    def total(self) -> Scalar:
        """The squared distance of all weights."""
        return _sum(self.left)

    def taken(
        self, first: Leaves, leaves: Leaves, g: Elements, always: Array
    ) -> "State":
        """Returns the state with some leaves and entries of `g`, if that is nearer.

        By more than rounding: a factor would else drift for ever where nothing tells
        it.
        """
        left = distances(first, leaves)
        new, old = _sum(left), _sum({path: self.left[path] for path in left})
        better = new < old * (1 - jnp.finfo(old.dtype).eps)
        # Also what is always taken has to be finite.
        better = better | (always & jnp.isfinite(new))
        g, leaves, left = jax.tree.map(
            lambda x, y: jnp.where(better, x, y),
            (g, leaves, left),
            (
                {name: self.g[name] for name in g},
                {path: self.leaves[path] for path in leaves},
                {path: self.left[path] for path in left},
            ),
        )
        return State(self.g | g, self.leaves | leaves, self.left | left, self.going)

    def moved(
        self,
        spec: WeightSpec,
        name: str,
        h: Any,
        first: Leaves,
        always: Array,
    ) -> "State":
        """Returns the state behind an element of one unit space, if that is nearer."""
        leaves = move_space(spec, name, h, self.leaves)
        return self.taken(first, leaves, mul_space(spec, name, h, self.g), always)


def _sum(left: dict[str, Array]) -> Scalar:
    first, *rest = left.values()
    return sum(rest, first)


def started(first: Leaves, leaves: Leaves, g: Elements) -> State:
    """Returns the state of an element and what it makes of the second network."""
    return State(g, leaves, distances(first, leaves), jnp.asarray(True))


def descended(
    spec: WeightSpec,
    first: Leaves,
    state: State,
    told: frozenset[str],
    early: tuple[Leaves, dict[str, frozenset[str]], Array],
    sweeps: int,
) -> State:
    """Returns the state in which no unit space alone can do better.

    Args:
        spec: of both networks.
        first: leaves of the network that stays.
        state: where to start.
        told: spaces whose units stand where they should.
        early: what the first sweep has instead, if the last of the three is true:
            leaves of the network that stays, and by space those that are compared. Its
            updates are taken in any case.
        sweeps: over all unit spaces, at most.
    """
    plain, compared, forced = early

    def sweep(carry: tuple[Array, State]) -> tuple[Array, State]:
        number, state = carry
        before = state.total
        start = forced & (number == 0)
        for space in spec.spaces:
            a, b = {}, {}
            for leaf in touching(spec, space.name):
                path = leaf.path
                a[path], b[path] = first[path], state.leaves[path]
                if plain[path] is not first[path]:
                    a[path] = jnp.where(start, plain[path], a[path])
                if path not in compared[space.name]:
                    a[path], b[path] = (
                        jnp.where(start, 0, x) for x in (a[path], b[path])
                    )
            h = best_of(spec, space, a, b, space.name in told)
            state = state.moved(spec, space.name, h, first, start)
        for shift in spec.shifts:
            off = first[shift.leaf] - state.leaves[shift.leaf]
            off = jnp.mean(off, shift.along) if shift.along else off
            leaves = act_shift(spec, shift, off, state.leaves)
            own = {shift.leaf, *(route.bias for route in shift.routes)}
            state = state.taken(
                first,
                {path: leaves[path] for path in own},
                {shift.name: state.g[shift.name] + off},
                start,
            )
        going = start | (state.total < before * (1 - ENOUGH))
        return number + 1, state._replace(going=going)

    return jax.lax.while_loop(
        lambda carry: carry[1].going & (carry[0] < sweeps),
        sweep,
        (jnp.asarray(0), state),
    )[1]


def unshifted(spec: WeightSpec, leaves: Leaves) -> tuple[Leaves, Elements]:
    """Returns leaves whose shifts are taken out, and the shifts that do so."""
    found: Elements = {}
    for shift in spec.shifts:
        x = leaves[shift.leaf]
        found[shift.name] = -(jnp.mean(x, shift.along) if shift.along else x)
        leaves = act_shift(spec, shift, found[shift.name], leaves)
    return leaves, found


def in_order(spec: WeightSpec) -> dict[str, frozenset[str]]:
    """Returns by space the leaves that are compared when it is the next one to be told.

    Those whose other axes are moved by nothing, by spaces before it, or by spaces of
    its own units. Where there are none, all.
    """
    known: set[str | None] = {None}
    found = {}
    for space in spec.spaces:
        own = {other.name for other in spec.spaces if other.per == space.name}
        leaves = touching(spec, space.name)
        told = frozenset(
            leaf.path
            for leaf in leaves
            if sum(axis.space == space.name for axis in leaf.axes) == 1
            and {axis.space for axis in leaf.axes} <= {*known, space.name, *own}
        )
        found[space.name] = told or frozenset(leaf.path for leaf in leaves)
        known.add(space.name)
    return found


def only_permutes(spec: WeightSpec) -> bool:
    """Whether a spec has permutations alone."""
    groups = {GROUPS[space.group].name for space in spec.spaces}
    return groups <= {"permutation"} and not spec.shifts
