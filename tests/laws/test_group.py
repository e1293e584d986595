"""Group axioms: permutation parts exactly, scales and matrices to rounding."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.registry import COND, GROUPS, POWERS, RTOL, SIZES, SPREAD, gap, same_element

CASES = [(name, size) for name in GROUPS for size in SIZES[name]]


@functools.cache
def _three(name: str, size: int) -> tuple[Any, Any, Any]:
    keys = jax.random.split(jax.random.key(size), 3)
    spread = SPREAD if GROUPS[name].monomial else COND
    draw = functools.partial(
        GROUPS[name].sample, size=size, spread=spread, dtype=jnp.float64
    )
    return draw(keys[0]), draw(keys[1]), draw(keys[2])


@pytest.mark.parametrize(("name", "size"), CASES)
def test_identity(name, size):
    group, (g, _, _) = GROUPS[name], _three(name, size)
    e = group.identity(size, jnp.float64)
    for product in (group.mul(e, g), group.mul(g, e)):
        jax.tree.map(np.testing.assert_array_equal, product, g)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_inverse(name, size):
    group, (g, _, _) = GROUPS[name], _three(name, size)
    e = group.identity(size, jnp.float64)
    same_element(name, group.mul(group.inv(g), g), e)
    same_element(name, group.mul(g, group.inv(g)), e)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_associative(name, size):
    group, (f, g, h) = GROUPS[name], _three(name, size)
    same_element(name, group.mul(group.mul(h, g), f), group.mul(h, group.mul(g, f)))


@pytest.mark.parametrize(("name", "size"), CASES)
def test_closed(name, size):
    group, (g, h, _) = GROUPS[name], _three(name, size)
    for element in (group.identity(size, jnp.float64), g, group.mul(h, g)):
        group.check(element, size)
    group.check(group.inv(g), size)


@pytest.mark.parametrize(
    ("name", "size", "power"),
    [(name, size, power) for name, size in CASES for power in POWERS[name]],
)
def test_moving_is_a_left_action(name, size, power):
    group, (g, h, _) = GROUPS[name], _three(name, size)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size)))
    once = group.move(group.mul(h, g), x, 1, power)
    twice = group.move(h, group.move(g, x, 1, power), 1, power)
    if group.monomial is None:
        assert gap(once, twice) <= RTOL
    else:
        np.testing.assert_allclose(once, twice, rtol=RTOL, atol=0)


@pytest.mark.parametrize("name", GROUPS)
def test_the_group_is_not_commutative(name):
    """Else a swapped product would pass every axiom; complex numbers do commute."""
    g, h, _ = _three(name, SIZES[name][-1])
    product, swapped = GROUPS[name].mul(h, g), GROUPS[name].mul(g, h)
    assert (gap(product, swapped) > 1e-3) == (name != "rotary")
