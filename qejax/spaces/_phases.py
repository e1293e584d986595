"""Sine units: phases brought into one half period, and features without a half period.

With `r = pi / w0` one turn, a unit `sin(w0 (w . x + b))` has a bias that means
something modulo `2 r` only, and modulo `r` if its readers flip. Two answers:

- `unturned` picks the point of the orbit with `b` in `[-r/2, r/2]`. It is a network,
  but jumps where `b` crosses the end of the interval.
- `phase_free` reads what no turn changes, continuous in the weights. Since
  `sin(w0 (w x + b)) = cos(w0 b) sin(w0 w x) + sin(w0 b) cos(w0 w x)`, readers `K` of
  the unit are read as `K cos(w0 b)` and `K sin(w0 b)`, its bias as `sin(2 w0 b)` and
  `cos(2 w0 b)`. A sign flip `w, b -> -w, -b` flips the first of each pair with `w` and
  leaves the second alone: these features live in a weight space of signs.

Source: our own.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Leaves
from qejax.groups import GROUPS
from qejax.spaces._leaf import Axis, Leaf
from qejax.spaces._spec import WeightSpec


class Phase(NamedTuple):
    """Where the phases of one unit space are."""

    path: str
    position: int
    turn: float


def phases(spec: WeightSpec) -> dict[str, Phase]:
    """Returns the axis that adds the phases, by unit space."""
    return {
        str(axis.space): Phase(leaf.path, position, axis.turn)
        for leaf in spec.leaves
        for position, axis in enumerate(leaf.axes)
        if axis.turn
    }


def act_turns(spec: WeightSpec, g: dict[str, Array], leaves: Leaves) -> Leaves:
    """Adds the turns of `g` to leaves that its signs have moved already."""
    moved = dict(leaves)
    for name, (path, position, turn) in phases(spec).items():
        turns = GROUPS[spec.space_by_name[name].group].turns
        if turns is not None:
            x = leaves[path]
            added = turn * turns(g[name]).astype(x.dtype)
            moved[path] = x + added.reshape(_along(x, position))
    return moved


@lru_cache(maxsize=256)
def signed_spec(spec: WeightSpec) -> WeightSpec:
    """Returns the same leaves with signs alone where units could turn as well."""
    spaces = tuple(
        replace(s, group="sign") if GROUPS[s.group].turns is not None else s
        for s in spec.spaces
    )
    return spec if spaces == spec.spaces else replace(spec, spaces=spaces)


def unturned(spec: WeightSpec, leaves: Leaves) -> tuple[Leaves, dict[str, Array]]:
    """Returns leaves on the same orbit with phases in half a period around zero.

    Args:
        spec: the weight space.
        leaves: by path, in views.

    Returns:
        The leaves, and `[n_s]` whole numbers of turns that were taken off by space.
    """
    taken: dict[str, Array] = {}
    moved = dict(leaves)
    for name, (path, _, turn) in phases(spec).items():
        if GROUPS[spec.space_by_name[name].group].turns is None:
            continue
        x = leaves[path]
        turns = jnp.round(x / turn)
        moved[path] = x - turn * turns
        taken[name] = turns.reshape(-1)
        flips = 1 - 2 * jnp.mod(turns, 2).reshape(-1)
        for leaf in spec.leaves:
            for place, axis in enumerate(leaf.axes):
                if axis.space == name and axis.power < 0 and axis.power % 2:
                    x = moved[leaf.path]
                    moved[leaf.path] = x * flips.reshape(_along(x, place))
    return moved, taken


def smooth(spec: WeightSpec, leaves: Leaves) -> Leaves:
    """Returns the leaves with `sin(2 w0 b) / (2 w0)` for every bias with a phase.

    Odd like the bias, near it where it is small, and continuous across half periods.
    """
    found = dict(leaves)
    for path, _, turn in phases(spec).values():
        rate = 2 * np.pi / turn
        found[path] = jnp.sin(rate * leaves[path]) / rate
    return found


@lru_cache(maxsize=256)
def phase_free_spec(spec: WeightSpec) -> WeightSpec:
    """Returns the spec of `phase_free` features: signs, and no phases.

    A leaf becomes two for every axis with a phase or that reads units with one: `_cos`
    flips with the units, `_sin` does not. Of a bias they are the sine and the cosine of
    the doubled phase, in this order. Parts of one array become arrays of their own.
    """
    where = phases(spec)
    if not where:
        return spec
    leaves = tuple(part for leaf in spec.leaves for part, _ in _parts(leaf, where))
    return replace(signed_spec(spec), leaves=leaves)


def phase_free(spec: WeightSpec, leaves: Leaves) -> Leaves:
    """Returns features that no turn changes, of `phase_free_spec(spec)`; see above.

    Args:
        spec: the weight space; its turns need not have been taken out.
        leaves: by path, in views.
    """
    where = phases(spec)
    found: Leaves = {}
    for leaf in spec.leaves:
        for part, factors in _parts(leaf, where):
            found[part.path] = _times(spec, leaves, leaf, factors, leaves[leaf.path])
    return found


def with_phases(spec: WeightSpec, leaves: Leaves, changes: Leaves) -> Leaves:
    """Returns changes of the weights that transform as these do, turns included.

    The transpose of `phase_free` for readers: `cos(w0 b) D_cos + sin(w0 b) D_sin`; of a
    bias, in units of a turn, `D_sin + sin(2 w0 b) D_cos`.

    Args:
        spec: the weight space.
        leaves: weights that the changes are for, by path, in views.
        changes: of `phase_free_spec(spec)`, by path, `[*leaf.view]`.
    """
    where = phases(spec)
    out: Leaves = {}
    for leaf in spec.leaves:
        total: Array | float = 0.0
        for part, factors in _parts(leaf, where):
            total = total + _times(
                spec, leaves, leaf, factors, changes[part.path], back=True
            )
        out[leaf.path] = jnp.asarray(total)
    return out


class _Factor(NamedTuple):
    """One of a pair: of which axis, and whether it flips with the units."""

    position: int
    odd: bool


def _parts(
    leaf: Leaf, where: dict[str, Phase]
) -> Iterator[tuple[Leaf, tuple[_Factor, ...]]]:
    """Yields the leaves that one becomes, and what each is multiplied by."""
    parts: list[tuple[Leaf, tuple[_Factor, ...]]] = [(replace(leaf, cut=None), ())]
    for position, axis in enumerate(leaf.axes):
        reads = axis.space in where and axis.power < 0
        if not axis.turn and not reads:
            continue
        direction = -1 if reads else 1
        new = []
        for odd in (True, False):
            own = Axis(axis.size, axis.space, direction * (1 if odd else 2))
            name = "cos" if odd == reads else "sin"
            for old, factors in parts:
                axes = (*old.axes[:position], own, *old.axes[position + 1 :])
                path = f"{old.path}_{name}"
                new.append(
                    (
                        replace(old, path=path, axes=axes),
                        (*factors, _Factor(position, odd)),
                    )
                )
        parts = new
    yield from parts


def _times(
    spec: WeightSpec,
    leaves: Leaves,
    leaf: Leaf,
    factors: tuple[_Factor, ...],
    x: Array,
    back: bool = False,
) -> Array:
    """One part of a leaf, or with `back` what a change of it is to the leaf."""
    where = phases(spec)
    for position, odd in factors:
        axis = leaf.axes[position]
        path, _, turn = where[str(axis.space)]
        angle = (np.pi / turn) * leaves[path]
        if axis.turn and back:
            x = turn * (x if odd else jnp.sin(2 * angle) * x)
        elif axis.turn:
            x = jnp.sin(2 * angle) if odd else jnp.cos(2 * angle)
        else:
            value = jnp.cos(angle) if odd else jnp.sin(angle)
            x = x * value.reshape(_along(x, position))
    return x


def _along(x: Array, position: int) -> tuple[int, ...]:
    """The shape of a vector along one axis of `x`."""
    return tuple(-1 if p == position else 1 for p in range(x.ndim))
