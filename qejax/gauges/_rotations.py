"""Rotations of units as elements of the group, for every group that has them."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, Float, PRNGKeyArray
from qejax.groups import GROUPS, fixed_ones_basis


def _whole(size: int) -> int:
    return size


def _centred(size: int) -> int:
    return size - 1


def _same(rotation: Array) -> Array:
    return rotation


def fixing_ones(rotation: Float[Array, "k k"]) -> Float[Array, "n n"]:
    """Returns the rotation of `n = k + 1` units that keeps the vector of ones."""
    size = rotation.shape[-1] + 1
    basis = jnp.asarray(fixed_ones_basis(size), rotation.dtype)
    return basis @ rotation @ basis.T + jnp.full((size, size), 1 / size, rotation.dtype)


ROTATED: dict[str, tuple[Callable[[int], int], Callable[[Array], Array]]] = {
    "general_linear": (_whole, _same),
    "linear_stream": (_whole, _same),
    "orthogonal": (_whole, _same),
    "orthogonal_ones": (_centred, fixing_ones),
}
"""By group: the side `k` of the rotations of `n` units, and the element of one.

Groups that are not here have none.
"""


def hadamard(key: PRNGKeyArray, size: int, dtype: DTypeLike) -> Float[Array, "n n"]:
    """Returns a Hadamard matrix over `sqrt(n)` behind random signs, of order `2^k`.

    Of other sizes, a rotation drawn uniformly.

    Source: Ashkboos et al. 2024, arXiv:2404.00456 (randomised Hadamard rotations).

    Example:
        >>> q = hadamard(jax.random.key(0), 4, jnp.float32)
        >>> bool(jnp.all(abs(q) == 0.5)), bool(jnp.allclose(q @ q.T, jnp.eye(4)))
        (True, True)
    """
    if size & (size - 1):
        return GROUPS["orthogonal"].sample(key, size, 1.0, dtype)
    whole = np.ones((1, 1))
    while len(whole) < size:
        whole = np.block([[whole, whole], [whole, -whole]])
    sign = jax.random.rademacher(key, (size,), dtype)
    return jnp.asarray(whole / math.sqrt(size), dtype) * sign[None]
