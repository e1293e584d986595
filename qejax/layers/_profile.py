"""How large the weights of each unit are, beside the largest ones of their leaf."""

from typing import NamedTuple

import jax.numpy as jnp

from qejax._typing import Array, Float, Leaves
from qejax.spaces import Rows, WeightSpec, rows_of

PER_TOUCH = 4
"""Numbers of a unit for every axis of a leaf that it moves."""

PER_LEAF = 2
"""Numbers of a leaf."""

LEAST = -12.0
"""Logarithm of a share that is as good as zero."""


class Profile(NamedTuple):
    """Sizes of the weights of one network.

    Attributes:
        units: by unit space, `[n_s, F_s]`, or `[m, n_s, F_s]` of a space per another
            one; `F_s` is `PER_TOUCH` for every axis that the space moves.
        globe: `[PER_LEAF * leaves]`, leaves in the order of the spec.
    """

    units: dict[str, Float[Array, "... n F"]]
    globe: Float[Array, " G"]


def profile_width(spec: WeightSpec, name: str) -> int:
    """Returns `F_s` of a unit space."""
    axes = [axis for leaf in spec.leaves for axis in leaf.axes if axis.space == name]
    return PER_TOUCH * len(axes)


def profile(spec: WeightSpec, leaves: Leaves) -> Profile:
    """Returns what rounding, and most that sees weights, has to do with each unit.

    Of every unit and leaf that it touches: logarithms of its largest weight over that
    of the leaf, of its root mean square over that of the leaf, and of the first of
    these over the second, and its mean over its root mean square. Of every leaf: its
    largest weight over its root mean square, and that. Permuting units permutes them;
    multiplying a whole leaf by a number changes nothing but the last.

    Args:
        spec: the weight space.
        leaves: by path, `[*leaf.view]`.
    """
    tops = {path: jnp.max(jnp.abs(x)) for path, x in leaves.items()}
    sizes = {path: _root(jnp.mean(x * x)) for path, x in leaves.items()}
    units = {}
    for space in spec.spaces:
        parts: list[Array] = []
        for row in rows_of(spec, space.name, leaves):
            parts += _of_row(row, tops[row.leaf.path], sizes[row.leaf.path])
        lead = (*spec.per_size(space), space.size)
        dtype = jnp.result_type(*leaves.values())
        units[space.name] = (
            jnp.stack(parts, -1) if parts else jnp.zeros((*lead, 0), dtype)
        )
    globe: list[Array] = []
    for leaf in spec.leaves:  # A dict behind `jit` or `scan` has an order of its own.
        size = sizes[leaf.path]
        globe += [_log(tops[leaf.path], size), _log(size, 1.0)]
    return Profile(units, jnp.stack(globe))


def _of_row(row: Rows, top: Array, size: Array) -> list[Array]:
    x = row.values
    own_top = jnp.max(jnp.abs(x), -1)
    own_size = _root(jnp.mean(x * x, -1))
    mean = jnp.mean(x, -1) / jnp.where(own_size > 0, own_size, 1)
    return [_log(own_top, top), _log(own_size, size), _log(own_top, own_size), mean]


def _root(square: Array) -> Array:
    """The root, with gradient 0 where weights are all zero."""
    return jnp.sqrt(jnp.where(square > 0, square, 1)) * (square > 0)


def _log(over: Array, under: Array | float) -> Array:
    under = jnp.asarray(under, over.dtype)
    live = (over > 0) & (under > 0)
    share = jnp.where(live, over, 1) / jnp.where(live, under, 1)
    return jnp.clip(jnp.where(live, jnp.log(share), LEAST), LEAST, -LEAST)
