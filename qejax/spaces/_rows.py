"""Leaves seen from one unit space: a row of numbers for each unit."""

from typing import NamedTuple

import jax.numpy as jnp

from qejax._typing import Array, Leaves
from qejax.spaces._leaf import Leaf
from qejax.spaces._spec import WeightSpec


class Rows(NamedTuple):
    """The entries of one leaf at every unit of a space.

    Attributes:
        leaf: whose entries these are.
        position: of the axis of the units in its view.
        values: `[n, R]`, or `[m, n, R]` of a space per another one of `m` units.
    """

    leaf: Leaf
    position: int
    values: Array

    @property
    def power(self) -> int:
        """With which the leaf feels the units; above 0 where it writes them."""
        return self.leaf.axes[self.position].power

    @property
    def turn(self) -> float:
        """What one turn adds to each entry, 0 where nothing is added."""
        return self.leaf.axes[self.position].turn


def rows_of(spec: WeightSpec, name: str, leaves: Leaves) -> tuple[Rows, ...]:
    """Returns the rows of every axis that a space moves, in the order of the spec.

    Args:
        spec: the weight space.
        name: of one of its unit spaces.
        leaves: by path, `[*leaf.view]`.

    Example:
        >>> import jax
        >>> from qejax import nets, spaces
        >>> net = nets.mlp((4, 3, 2))
        >>> leaves = spaces.views(net.spec, net.init(jax.random.key(0)))
        >>> [row.values.shape for row in rows_of(net.spec, "hidden_0", leaves)]
        [(3, 4), (3, 1), (3, 2)]
    """
    found = []
    for leaf in spec.leaves:
        for position, axis in enumerate(leaf.axes):
            if axis.space != name:
                continue
            host = spec.per_axis(leaf, position)
            own = (position,) if host is None else (host, position)
            x = jnp.moveaxis(leaves[leaf.path], own, tuple(range(len(own))))
            lead = x.shape[: len(own)]
            found.append(Rows(leaf, position, x.reshape(*lead, -1)))
    return tuple(found)
