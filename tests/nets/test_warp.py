"""Signals moved by the weights of their networks: the law, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets

KEY = jax.random.key(0)
MATRIX = np.array([[0.9, -0.3], [0.4, 1.2]])
SHIFT = np.array([0.2, -0.1])


@pytest.mark.parametrize("activation", ["sine(30)", "gaussian(3)", "tanh", "relu"])
def test_values_are_those_at_moved_coordinates(activation: str) -> None:
    net = nets.coordinate((2, 6, 5, 3), activation, offset=0.5)
    theta = net.init(KEY, "float64")
    x = jnp.asarray(nets.grid(4, 4), jnp.float64)
    matrix, shift = jnp.asarray(MATRIX), jnp.asarray(SHIFT)
    moved = net.apply(nets.warp(net, theta, matrix, shift), x)
    expected = net.apply(theta, x @ matrix.T + shift[None])
    np.testing.assert_allclose(moved, expected, rtol=1e-10, atol=1e-12)
    wrong = net.apply(nets.warp(net, theta, matrix.T, shift), x)
    assert float(jnp.abs(wrong - expected).max()) > 1e-3


@pytest.mark.parametrize(
    "net",
    [nets.coordinate((2, 4, 1), "relu", octaves=2), nets.mlp((2, 4, 1), "tanh")],
)
def test_other_first_layers_are_refused(net: Any) -> None:
    with pytest.raises(ValueError, match="that reads bare coordinates, got"):
        nets.warp(net, net.init(KEY), jnp.asarray(MATRIX), jnp.asarray(SHIFT))


def test_other_sizes_are_named() -> None:
    net = nets.coordinate((1, 4, 1))
    with pytest.raises(ValueError, match=r"expected a matrix \(1, 1\) and a shift"):
        nets.warp(net, net.init(KEY), jnp.asarray(MATRIX), jnp.asarray(SHIFT))
