"""Small functions and weights that tests of derived specs share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def weights(*shapes: tuple[int, ...], seed: int = 0) -> dict[str, jax.Array]:
    """Generic arrays `a`, `b`, ... of these shapes."""
    draw = np.random.default_rng(seed)
    return {
        chr(ord("a") + n): jnp.asarray(draw.normal(size=shape))
        for n, shape in enumerate(shapes)
    }


X = jnp.asarray(np.random.default_rng(9).normal(size=(5, 3)))


def groups(derived: Any) -> list[tuple[str, int, str]]:
    return [(s.name, s.size, s.group) for s in derived.spec.spaces]


def two_layers(theta: Any, x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x @ theta["a"]) @ theta["b"]
