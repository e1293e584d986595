"""Test networks moved along their orbits: the same functions, other weights."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax._typing import PRNGKeyArray, Theta
from qejax.groups import GROUPS, Monomial
from qejax.spaces import Elements, WeightSpec, act, identity, sample, views

EXPONENTS = (0, 1, 2, 3, 4)
"""Of the robustness curve: scales are drawn from U[1, 10^k], matrices of heads have
condition number 10^k."""


def element(
    key: PRNGKeyArray,
    spec: WeightSpec,
    top: float,
    permute: bool,
    dtype: DTypeLike = jnp.float32,
) -> Elements:
    """Returns a random element with scales in `U[1, top]`.

    Units under signs get a fair sign each and matrices a condition number of `top`,
    unless `top` is 1. Without `permute`, and with `top = 1`, this is the identity.
    Shifts are zero: see `shifted`.

    Args:
        key: consumed.
        spec: the weight space.
        top: largest scale, at least 1.
        permute: whether units are permuted as well.
        dtype: of matrices, which keep the function as far as it goes.
    """
    still = identity(spec, dtype)
    # Matrices and half periods are drawn by the library; the rest is drawn over.
    g = sample(key, spec, top, dtype) if top > 1 else dict(still)
    g |= {shift.name: still[shift.name] for shift in spec.shifts}
    keys = jax.random.split(key, 2 * max(len(spec.spaces), 1))
    for i, space in enumerate(spec.spaces):
        row = GROUPS[space.group]
        if row.monomial is None or row.turns is not None:
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


def shifted(key: PRNGKeyArray, spec: WeightSpec, theta: Theta) -> Theta:
    """Returns one network moved by shifts as large as what they are added to.

    A shift of one would drown weights of 1e-5 in float32: another function.
    """
    leaves = views(spec, theta)
    dtype = jnp.result_type(*leaves.values())
    drawn = sample(key, spec, dtype=dtype)
    g = identity(spec, dtype) | {s.name: drawn[s.name] for s in spec.shifts}
    for shift in spec.shifts:
        x = leaves[shift.leaf]
        size = jnp.sqrt(jnp.mean(x * x, shift.along or None))
        g[shift.name] = g[shift.name] * jnp.where(size > 0, size, 1)
    return act(spec, g, theta)


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
    dtype = jnp.result_type(*jax.tree.leaves(thetas))

    @jax.jit
    def moved(keys: PRNGKeyArray, thetas: Theta) -> Theta:
        def one(key: PRNGKeyArray, theta: Theta) -> Theta:
            theta = act(spec, element(key, spec, top, permute, dtype), theta)
            if top == 1 or not spec.shifts:
                return theta
            return shifted(jax.random.fold_in(key, 1), spec, theta)

        return jax.vmap(one)(keys, thetas)

    return moved(jax.random.split(key, count), thetas)
