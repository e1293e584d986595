"""One unit space moved alone: only the leaves and elements that it touches.

`qejax.spaces.act` and `mul` go through a whole network. One that is aligned space by
space would be compiled once for every space.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax

from qejax._typing import Array, Leaves
from qejax.groups import GROUPS
from qejax.spaces._elements import Elements
from qejax.spaces._leaf import Axis, Leaf
from qejax.spaces._move import act_leaf
from qejax.spaces._spec import WeightSpec


@lru_cache(maxsize=4096)
def touching(spec: WeightSpec, name: str) -> tuple[Leaf, ...]:
    """Returns the leaves that a unit space moves, in the order of the spec."""
    return tuple(
        leaf for leaf in spec.leaves if any(axis.space == name for axis in leaf.axes)
    )


def move_space(spec: WeightSpec, name: str, h: Any, leaves: Leaves) -> Leaves:
    """Returns the leaves that one unit space touches, moved by its element `h`."""
    return {
        leaf.path: _moved(spec, leaf, name, h, leaves[leaf.path])
        for leaf in touching(spec, name)
    }


def _moved(spec: WeightSpec, leaf: Leaf, name: str, h: Any, x: Array) -> Array:
    """One leaf, axis by axis, as if nothing else moved it."""
    for position, axis in enumerate(leaf.axes):
        if axis.space != name:
            continue
        host = spec.per_axis(leaf, position)
        still = [Axis(own.size) for own in leaf.axes]
        still[position] = axis
        if host is None:
            x = act_leaf(replace(leaf, axes=tuple(still)), spec, {name: h}, x)
        else:
            del still[host]
            alone = replace(leaf, axes=tuple(still), shape=None)
            x = jax.vmap(
                lambda one, part, alone=alone: act_leaf(alone, spec, {name: one}, part),
                (0, host),
                host,
            )(h, x)
        turns = GROUPS[spec.space_by_name[name].group].turns
        if axis.turn and turns is not None:
            x = x + axis.turn * turns(h).astype(x.dtype)
    return x


def mul_space(spec: WeightSpec, name: str, h: Any, g: Elements) -> Elements:
    """Returns the entries of `h g` that differ from those of `g`, `h` of one space."""
    space = spec.space_by_name[name]
    product = GROUPS[space.group].mul
    product = product if space.per is None else jax.vmap(product)
    found: Elements = {name: product(h, g[name])}
    for inner in spec.spaces:
        if inner.per == name:
            found[inner.name] = jax.tree.map(lambda x: x[h.perm], g[inner.name])
    for shift in spec.shifts:
        leaf = shift.moves(spec.leaf_by_path[shift.leaf])
        if any(axis.space == name for axis in leaf.axes):
            still = tuple(replace(axis, turn=0.0) for axis in leaf.axes)
            own = replace(leaf, axes=still)
            found[shift.name] = _moved(spec, own, name, h, g[shift.name])
    return found
