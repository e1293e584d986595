"""Test networks moved along their orbits: the same functions, other weights."""

import jax
import jax.numpy as jnp

from qejax._typing import PRNGKeyArray, Theta
from qejax.groups import GROUPS, Monomial
from qejax.spaces import Elements, WeightSpec, act, identity, sample

EXPONENTS = (0, 1, 2, 3, 4)
"""Of the robustness curve: scales are drawn from U[1, 10^k], matrices of heads have
condition number 10^k."""


def element(key: PRNGKeyArray, spec: WeightSpec, top: float, permute: bool) -> Elements:
    """Returns a random element with scales in `U[1, top]`.

    Units under signs get a fair sign each, matrices a condition number of `top` and
    shifts a deviation of 1, unless `top` is 1. Without `permute`, and with `top = 1`,
    this is the identity.

    Args:
        key: consumed.
        spec: the weight space.
        top: largest scale, at least 1.
        permute: whether units are permuted as well.
    """
    # Matrices and shifts are drawn by the library; the rest is drawn over.
    g = sample(key, spec, top) if top > 1 else identity(spec)
    keys = jax.random.split(key, 2 * max(len(spec.spaces), 1))
    for i, space in enumerate(spec.spaces):
        if GROUPS[space.group].monomial is None:
            continue
        key_perm, key_scale = keys[2 * i], keys[2 * i + 1]
        shape = (*spec.per_size(space), space.size)
        scale = jnp.ones(shape)
        if space.group == "positive_scale":
            scale = jax.random.uniform(key_scale, shape, minval=1.0, maxval=top)
        elif space.group == "sign" and top > 1:
            scale = jax.random.rademacher(key_scale, shape, scale.dtype)
        perm = jnp.broadcast_to(jnp.arange(space.size), shape)
        if permute and space.per is None:
            perm = jax.random.permutation(key_perm, space.size)
        elif permute:
            perm = jax.random.permutation(key_perm, perm, axis=-1, independent=True)
        g[space.name] = Monomial(perm, scale)
    return g


def move_zoo(
    key: PRNGKeyArray, spec: WeightSpec, thetas: Theta, top: float, permute: bool
) -> Theta:
    """Returns every network moved by an element of its own; see `element`.

    Args:
        key: consumed.
        spec: the weight space.
        thetas: leaves `[B, ...]`.
        top: largest scale.
        permute: whether units are permuted as well.

    Returns:
        Weights of the same structure; every network computes the same function.
    """
    count = jax.tree.leaves(thetas)[0].shape[0]

    @jax.jit
    def moved(keys: PRNGKeyArray, thetas: Theta) -> Theta:
        g = jax.vmap(lambda k: element(k, spec, top, permute))(keys)
        return jax.vmap(act, in_axes=(None, 0, 0))(spec, g, thetas)

    return moved(jax.random.split(key, count), thetas)
