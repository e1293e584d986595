"""A size for each unit as an element of the group, for every group that has sizes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from qejax._typing import Array, Float
from qejax.groups import Monomial


def _monomial(size: Array) -> Monomial:
    return Monomial(jnp.arange(size.shape[0]), size)


def _diagonal(size: Array) -> Array:
    return jnp.diag(size)


def _pairs(size: Array) -> Array:
    """Both units of a pair have one size: the geometric mean of what is asked for."""
    first, second = jnp.split(size, 2)
    both = jnp.sqrt(first) * jnp.sqrt(second)
    return jnp.stack([both, jnp.zeros_like(both)], -1)


SIZES: dict[str, Callable[[Float[Array, " n"]], Any]] = {
    "positive_scale": _monomial,
    "general_linear": _diagonal,
    "linear_stream": _diagonal,
    "absorbed": _diagonal,
    "rotary": _pairs,
}
"""By group: from positive sizes `[n]` to the element that multiplies units by them.

Groups that are not here have none.
"""

LARGEST = 1e15
"""A size, or one over it, is at most so large: what is nearly dead stays finite."""


def ratio(over: Array, under: Array) -> Array:
    """Returns `over / under`, 1 where either is zero, within what is finite."""
    live = (over > 0) & (under > 0)
    found = jnp.where(live, over, 1) / jnp.where(live, under, 1)
    return jnp.clip(found, 1 / LARGEST, LARGEST)
