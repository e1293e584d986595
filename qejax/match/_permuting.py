"""Permutations as elements of any group, and how far leaves are apart."""

from typing import Any

import jax
import jax.numpy as jnp

from qejax._typing import Array, Leaves
from qejax.groups import GROUPS
from qejax.spaces import WeightSpec


def permuting(spec: WeightSpec, name: str, perm: Array, like: Any) -> Any:
    """Returns the element of one space that permutes units and does nothing else.

    Args:
        spec: the weight space.
        name: of the unit space.
        perm: `[n]`, or `[m, n]` of a space per another one.
        like: the identity of the space.
    """
    if GROUPS[spec.space_by_name[name].group].monomial is not None:
        return like._replace(perm=perm)
    return jax.nn.one_hot(perm, like.shape[-1], dtype=like.dtype)


def distances(first: Leaves, second: Leaves) -> dict[str, Array]:
    """Returns squared distances by leaf, of the leaves in `second`."""
    return {path: jnp.sum((first[path] - x) ** 2) for path, x in second.items()}
