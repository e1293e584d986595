"""Coordinate networks: values, starts, encodings, and what is refused."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces
from tests.layer_specs import fast_jit
from tests.registry import RTOL, Row, element_of, gap, inputs_of, theta_of

KEY = jax.random.key(0)


def test_a_grid_runs_like_a_flat_signal() -> None:
    grid = nets.grid(3, 2)
    assert grid.shape == (6, 2)
    np.testing.assert_allclose(grid[:3], [[-1, -1], [-1, 1], [0, -1]])
    np.testing.assert_allclose(nets.grid(3)[:, 0], [-1, 0, 1])


def test_values_are_those_of_the_formula() -> None:
    net = nets.coordinate((2, 4, 3), "sine(5)", offset=0.5)
    theta = net.init(KEY, "float64")
    x = jnp.asarray(nets.grid(3, 3), jnp.float64)
    first, last = theta["layer_00"], theta["layer_01"]
    hidden = jnp.sin(5 * (x @ first["kernel"] + first["bias"][None]))
    expected = hidden @ last["kernel"] + last["bias"][None] + 0.5
    np.testing.assert_allclose(net.apply(theta, x), expected, rtol=1e-12)


def test_sines_start_as_sirens_do() -> None:
    net = nets.coordinate((2, 64, 64, 1))
    theta = jax.vmap(lambda key: net.init(key, "float64"))(jax.random.split(KEY, 20))
    bounds = (1 / 2, math.sqrt(6 / 64) / 30, math.sqrt(6 / 64) / 30)
    shifts = (1 / math.sqrt(2), 1 / 8, 1 / 8)
    for layer, bound, shift in zip(theta.values(), bounds, shifts, strict=True):
        for leaf, most in (("kernel", bound), ("bias", shift)):
            top = float(jnp.abs(layer[leaf]).max())
            assert 0.9 * most < top <= most
    zeros = nets.coordinate((2, 4, 1), biases="zeros").init(KEY)
    assert not any(jnp.any(layer["bias"]) for layer in zeros.values())


def test_octaves_of_every_coordinate() -> None:
    net = nets.coordinate((2, 4, 1), "relu", octaves=3)
    assert net.spec.leaf_by_path["layer_00/kernel"].stored == (14, 4)
    theta = net.init(KEY, "float64")
    kernel = jnp.zeros((14, 4)).at[2 + 4, 0].set(1.0)  # sin(2 pi x_0)
    theta = {**theta, "layer_00": {"kernel": kernel, "bias": jnp.zeros(4)}}
    x = jnp.array([[0.25, 0.9], [0.1, 0.3]])
    units = net.units(theta, x)[1]["hidden_0"][:, 0]
    np.testing.assert_allclose(units, jnp.sin(2 * jnp.pi * x[:, 0]), rtol=1e-6)


def outputs_of_an_orbit(net: nets.Network, acting: Any) -> float:
    """How far outputs move when weights move by an element of the group of `acting`."""
    theta, g = theta_of(net.spec, 0), element_of(acting, 0)
    row = Row(net, (2,))
    run, x = fast_jit(net.apply), inputs_of(row)
    moved = fast_jit(functools.partial(spaces.act, acting))(g, theta)
    assert gap(moved, theta) > 1e-3
    return gap(run(moved, x), run(theta, x))


@pytest.mark.parametrize("name", ["tanh", "gaussian(1)", "sine(2)"])
def test_octaves_keep_the_symmetry_of_units(name: str) -> None:
    net = nets.coordinate((2, 5, 4, 3), name, octaves=2, offset=0.5)
    assert outputs_of_an_orbit(net, net.spec) < RTOL


def test_control_gaussians_do_not_flip_as_tanh_does() -> None:
    """The group of tanh has the same spaces, and flips readers too."""
    net, other = (
        nets.coordinate((2, 5, 4, 3), name, octaves=2)
        for name in ("gaussian(1)", "tanh")
    )
    assert outputs_of_an_orbit(net, other.spec) > 1e-3


def test_a_configuration_builds_it_again() -> None:
    net = nets.coordinate((1, 4, 2), "gaussian(3)", octaves=1, offset=0.5)
    assert nets.build(net.config.to_dict()) == net


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sine_is_the_sine(dtype: str) -> None:
    row = nets.activation("sine(1)")
    x = np.random.default_rng(0).uniform(-1e4, 1e4, 10_000).astype(dtype)
    exact = np.asarray(x, np.float64)
    tolerance = 5e-7 if dtype == "float32" else 1e-12
    for order, expected in enumerate((np.sin, np.cos, lambda x: -np.sin(x))):
        function: Any = row.function
        for _ in range(order):
            function = jax.grad(function)
        found = jax.jit(jax.vmap(function))(jnp.asarray(x))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected(exact), atol=tolerance)


@pytest.mark.parametrize("shape", [(5, 3), (5,), (5, 2, 1)])
def test_other_coordinates_are_named(shape: tuple[int, ...]) -> None:
    net = nets.coordinate((2, 4, 1))
    with pytest.raises(ValueError, match=r"expected coordinates \[N, 2\], got"):
        net.apply(net.init(KEY), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"octaves": -1}, "coordinate octaves: sizes should be integers of at least 0"),
        ({"biases": "ones"}, r"coordinate biases: expected one of \['uniform'"),
        ({"activation": "sin"}, "is unknown"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.coordinate((2, 4, 1), **fields)
