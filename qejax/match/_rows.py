"""Leaves seen from one unit space: a row of numbers for each unit."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp

from qejax._typing import Array, Leaves
from qejax.spaces import WeightSpec


class Rows(NamedTuple):
    """The entries of one leaf at every unit of a space.

    Attributes:
        values: `[n, R]`, or `[m, n, R]` of a space per another one.
        power: with which the leaf feels the units.
        turn: what one turn adds to each entry, 0 where nothing is added.
    """

    values: Array
    power: int
    turn: float


def rows_of(spec: WeightSpec, name: str, leaves: Leaves) -> Iterator[Rows]:
    """Yields the rows of every axis that a space moves, in the order of the spec."""
    for leaf in spec.leaves:
        for position, axis in enumerate(leaf.axes):
            if axis.space != name:
                continue
            host = spec.per_axis(leaf, position)
            own = (position,) if host is None else (host, position)
            x = jnp.moveaxis(leaves[leaf.path], own, tuple(range(len(own))))
            lead = x.shape[: len(own)]
            yield Rows(x.reshape(*lead, -1), axis.power, axis.turn)
