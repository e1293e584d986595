"""Logarithms and roots that are finite at zero, with finite gradients."""

import jax.numpy as jnp

from qejax._typing import Array

TINY = 1e-12
"""Below this a logarithm is cut off; all logarithms are of scale-free quantities."""


def log(x: Array, floor: float = TINY) -> Array:
    """Returns the natural logarithm, cut off below `floor`."""
    return jnp.log(jnp.maximum(x, floor))


def root(x: Array) -> Array:
    """Returns the square root of numbers at least zero; the gradient at zero is 0."""
    live = x > 0
    return jnp.where(live, jnp.sqrt(jnp.where(live, x, 1)), 0)
