"""Slopes of a loss along an orbit, and their running moments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax._typing import Leaves, Scalar
from qejax.models._choices import CHOICES, Numbers
from qejax.spaces import UnitSpace, WeightSpec, rows_of

DECAY, DECAY_SQUARE = 0.9, 0.98
"""Of running means of slopes and of their squares."""


class Moments(NamedTuple):
    """Running means of slopes, by unit space.

    Attributes:
        seen: slopes so far.
        mean: of slopes.
        square: of their squares.
    """

    seen: Scalar
    mean: dict[str, Numbers]
    square: dict[str, Numbers]


def choosing(spec: WeightSpec) -> tuple[UnitSpace, ...]:
    """Returns the unit spaces in which there is anything to choose but an order."""
    return tuple(space for space in spec.spaces if space.group in CHOICES)


def no_moments(spec: WeightSpec, dtype: DTypeLike) -> Moments:
    """Returns the moments of no slopes."""

    def zeros(space: UnitSpace) -> Numbers:
        lead = (*spec.per_size(space), space.size)
        side = space.size if CHOICES[space.group].pairs else 0
        return Numbers(jnp.zeros(lead, dtype), jnp.zeros((*lead, side), dtype))

    none = {space.name: zeros(space) for space in choosing(spec)}
    return Moments(jnp.zeros((), dtype), none, none)


def slopes(spec: WeightSpec, leaves: Leaves, gradient: Leaves) -> dict[str, Numbers]:
    """Returns the derivative of a loss by the numbers of every unit space, at zero.

    Args:
        spec: the weight space.
        leaves: weights, by path, `[*leaf.view]`.
        gradient: of the loss by them.
    """
    found = {}
    for space in choosing(spec):
        weights = rows_of(spec, space.name, leaves)
        others = rows_of(spec, space.name, gradient)

        def one(x: list, d: list, rows=weights, space=space) -> Numbers:
            own = [row._replace(values=v) for row, v in zip(rows, x, strict=True)]
            down = [row._replace(values=v) for row, v in zip(rows, d, strict=True)]
            return CHOICES[space.group].slope(own, down)

        values = [row.values for row in weights], [row.values for row in others]
        found[space.name] = (
            one(*values) if space.per is None else jax.vmap(one)(*values)
        )
    return found


def told_by(
    moments: Moments, found: dict[str, Numbers]
) -> tuple[dict[str, Numbers], Moments]:
    """Returns slopes of about unit size, and the moments with these.

    The running mean over the root of the running mean square, both without their bias;
    0 where no slope was ever there.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def averaged(old: dict, new: dict, decay: float) -> dict:
        return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)

    squares = jax.tree.map(lambda x: x * x, found)
    count = moments.seen + 1
    mean = averaged(moments.mean, found, DECAY)
    square = averaged(moments.square, squares, DECAY_SQUARE)
    one, two = 1 - DECAY**count, 1 - DECAY_SQUARE**count

    def scaled(m, v):
        live = v > 0
        return jnp.where(live, m / one, 0) / jnp.sqrt(jnp.where(live, v / two, 1))

    return jax.tree.map(scaled, mean, square), Moments(count, mean, square)
