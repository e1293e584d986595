"""Alignment: orbits are found again, distances never grow, bad input is named."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import match, nets, spaces
from tests.layer_specs import fast_jit
from tests.registry import NETS, theta_of


def distance(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(jnp.sum((x - y) ** 2) for x, y in pairs))


NAMES = (
    *("one hidden layer", "equal widths", "tanh", "gelu", "sine", "relu cubed"),
    *("cnn, strided, gap", "adapters of an unknown network"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_network_is_brought_back(name: str) -> None:
    spec = NETS[name].net.spec
    theta, other = theta_of(spec, 0), theta_of(spec, 1)
    g = spaces.sample(jax.random.key(1), spec, 3.0, jnp.float64)
    moved = spaces.act(spec, g, theta)
    align = fast_jit(lambda a, b: match.align(spec, a, b))
    h = align(theta, moved)
    spaces.check_elements(spec, h)
    assert distance(theta, spaces.act(spec, h, moved)) < 1e-10 * distance(theta, moved)
    # Another network is no nearer than it can be, and no farther than it was.
    nearer = spaces.act(spec, align(theta, other), other)
    assert 1e-3 < distance(theta, nearer) < distance(theta, other)


def test_scales_bring_nearer_than_permutations_alone() -> None:
    spec = NETS["equal widths"].net.spec
    theta, other = theta_of(spec, 0), theta_of(spec, 1)
    alone = match.permutations(spec)
    assert {space.group for space in alone.spaces} == {"permutation"}
    found = {
        name: distance(theta, spaces.act(own, match.align(own, theta, other), other))
        for name, own in (("all", spec), ("alone", alone))
    }
    assert found["all"] < found["alone"] < distance(theta, other)


def test_activations_assign_units() -> None:
    net = nets.mlp((4, 6, 2), activation="relu")
    theta, x = theta_of(net.spec, 0), jax.random.normal(jax.random.key(0), (50, 4))
    g = spaces.sample(jax.random.key(1), net.spec, 3.0, jnp.float64)
    moved = spaces.act(net.spec, g, theta)
    a, b = (net.units(t, x)[1] for t in (theta, moved))
    h = match.align(net.spec, theta, moved, units=(a, b))
    back = h["hidden_0"].perm
    np.testing.assert_array_equal(g["hidden_0"].perm[back], np.arange(6))
    with pytest.raises(ValueError, match="first network should have 6 units along the"):
        match.align(net.spec, theta, moved, units=({"hidden_0": x}, b))


def test_pairs_are_aligned_together() -> None:
    spec = NETS["tanh"].net.spec
    many = [theta_of(spec, seed) for seed in range(4)]
    a, b = (jax.tree.map(lambda *x: jnp.stack(x), *own) for own in (many[:2], many[2:]))
    h = jax.vmap(match.align, (None, 0, 0))(spec, a, b)
    one = match.align(spec, many[1], many[3])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-12), h, one)


def test_networks_that_do_not_fit_are_named() -> None:
    spec, other = NETS["tanh"].net.spec, NETS["one hidden layer"].net.spec
    with pytest.raises(ValueError, match="of two networks, theta_b is none"):
        match.align(spec, theta_of(spec, 0), theta_of(other, 0))


def test_barriers_are_above_the_line_between_losses() -> None:
    one = jnp.ones(2)
    found = match.barrier(lambda x: jnp.sum((x**2 - 1) ** 2), -one, one, points=5)
    np.testing.assert_allclose(found.losses, [0, 1.125, 2, 1.125, 0])
    assert found.height == 2
    np.testing.assert_allclose(match.between(-one, one, jnp.asarray(0.5)), 0 * one)
    with pytest.raises(ValueError, match="expected at least 3, both ends and one"):
        match.barrier(jnp.sum, one, one, points=2)
    with pytest.raises(ValueError, match="two networks of one architecture, got"):
        match.barrier(jnp.sum, one, jnp.ones(3))
