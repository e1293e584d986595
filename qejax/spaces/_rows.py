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
        multiplies: whether the leaf multiplies units or inputs: no bias, no scale of a
            norm.
    """

    leaf: Leaf
    position: int
    values: Array
    multiplies: bool

    @property
    def power(self) -> int:
        """With which the leaf feels the units; above 0 where it writes them."""
        return self.leaf.axes[self.position].power

    @property
    def turn(self) -> float:
        """What one turn adds to each entry, 0 where nothing is added."""
        return self.leaf.axes[self.position].turn


def written(spec: WeightSpec, leaf: Leaf) -> tuple[int, ...]:
    """Returns the positions of axes along which a leaf writes units.

    Whatever the power of one axis: a space and those per it are written together. Keys
    transform as what reads queries, and a gate has the scale of what it multiplies.
    """
    hosts = {p: spec.per_axis(leaf, p) for p in leaf.moved()}
    direct = {p for p in hosts if leaf.axes[p].power > 0}
    above = {hosts[p] for p in direct}
    return tuple(p for p in hosts if p in direct | above or hosts[p] in direct)


def read(spec: WeightSpec, leaf: Leaf) -> tuple[int, ...]:
    """Returns the positions of axes along which a leaf reads units."""
    writes = written(spec, leaf)
    return tuple(p for p in leaf.moved() if leaf.axes[p].power < 0 and p not in writes)


def multiplies(spec: WeightSpec, leaf: Leaf) -> bool:
    """Whether a leaf multiplies units or inputs: no bias, no scale of a norm.

    Example:
        >>> from qejax import nets
        >>> spec = nets.mlp_spec((4, 3, 2))
        >>> [leaf.path for leaf in spec.leaves if multiplies(spec, leaf)]
        ['layer_00/kernel', 'layer_01/kernel']
    """
    return len(leaf.axes) > 1 and bool(leaf.fixed() or read(spec, leaf))


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
        matrix = multiplies(spec, leaf)
        for position, axis in enumerate(leaf.axes):
            if axis.space != name:
                continue
            host = spec.per_axis(leaf, position)
            own = (position,) if host is None else (host, position)
            x = jnp.moveaxis(leaves[leaf.path], own, tuple(range(len(own))))
            lead = x.shape[: len(own)]
            found.append(Rows(leaf, position, x.reshape(*lead, -1), matrix))
    return tuple(found)
