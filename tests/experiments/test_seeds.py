"""Losses of seeds one after the other: the gradients are those that each has alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import seeds


def loss(params, part, key):
    noise = jax.random.normal(key, part.shape)
    return jnp.mean((jnp.tanh(part @ params["w"]) + params["b"][None] - noise) ** 2)


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4, 4)), "b": rng.normal(size=(3, 4))}
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
    parts = jnp.asarray(rng.normal(size=(3, 5, 4)))
    return params, parts, jax.random.split(jax.random.key(0), 3)


def test_losses_and_gradients_are_those_of_every_seed(given):
    params, parts, keys = given
    each, weights = seeds.losses_of(loss), jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(
        each(params, parts, keys), jax.vmap(loss)(params, parts, keys), rtol=1e-12
    )
    found = jax.jit(jax.grad(lambda p: jnp.vdot(weights, each(p, parts, keys))))(params)
    for seed, weight in enumerate(weights):
        alone = jax.tree.map(lambda a, seed=seed: a[seed], (params, parts, keys))
        grads = jax.grad(loss)(*alone)
        for name, grad in grads.items():
            np.testing.assert_allclose(found[name][seed], weight * grad, rtol=1e-10)
            others = np.delete(found[name], seed, axis=0)
            assert not np.allclose(others, weight * grad)
