"""Units put in places, one each."""

import jax.numpy as jnp
import optax

from qejax._typing import Array, Float, Int


def assigned(cost: Float[Array, "n n"]) -> Int[Array, " n"]:
    """Returns `perm` with the least `sum_i cost[i, perm[i]]`; exact.

    Costs that are not finite count as the largest of the others. Under `shard_map` this
    needs `check_vma=False`: the loops of optax start from constants.

    Source: Kuhn 1955, doi:10.1002/nav.3800020109, in `optax.assignment`.

    Example:
        >>> assigned(jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [1, 0]
    """
    finite = jnp.isfinite(cost)
    top = jnp.max(jnp.where(finite, cost, 0))
    rows, columns = optax.assignment.hungarian_algorithm(jnp.where(finite, cost, top))
    return jnp.zeros(cost.shape[0], jnp.int32).at[rows].set(columns.astype(jnp.int32))
