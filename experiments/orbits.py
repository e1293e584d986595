"""Other weights of the same functions: test networks moved along their orbits."""

import jax
import jax.numpy as jnp

from qejax import spaces
from qejax._typing import PRNGKeyArray, Theta
from qejax.spaces import WeightSpec


def move(
    key: PRNGKeyArray, spec: WeightSpec, thetas: Theta, spread: float = 10.0
) -> Theta:
    """Returns other weights of every network, by random elements, in float64.

    Args:
        key: consumed.
        spec: of the networks.
        thetas: leaves `[B, ...]`.
        spread: of scales, as in `spaces.sample`.
    """

    @jax.jit
    def moved(keys: PRNGKeyArray, thetas: Theta) -> Theta:
        def one(key: PRNGKeyArray, theta: Theta) -> Theta:
            return spaces.act(
                spec, spaces.sample(key, spec, spread, jnp.float64), theta
            )

        return jax.vmap(one)(keys, thetas)

    with jax.enable_x64(True):
        keys = jax.random.split(key, len(jax.tree.leaves(thetas)[0]))
        return jax.device_get(moved(keys, thetas))
