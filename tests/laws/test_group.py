"""Group axioms: permutation parts exactly, scales to rounding."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.groups import Monomial
from tests.registry import GROUPS, MOVED, NETS, RTOL, SIZES, SPREAD, element_of

CASES = [(name, size) for name in GROUPS for size in SIZES]


@functools.cache
def _three(name: str, size: int) -> tuple[Any, Any, Any]:
    keys = jax.random.split(jax.random.key(size), 3)
    draw = functools.partial(
        GROUPS[name].sample, size=size, spread=SPREAD, dtype=jnp.float64
    )
    return draw(keys[0]), draw(keys[1]), draw(keys[2])


def _same(got: Monomial, expected: Monomial) -> None:
    np.testing.assert_array_equal(got.perm, expected.perm)
    np.testing.assert_allclose(got.scale, expected.scale, rtol=RTOL, atol=0)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_identity(name, size):
    group, (g, _, _) = GROUPS[name], _three(name, size)
    e = group.identity(size, jnp.float64)
    for product in (group.mul(e, g), group.mul(g, e)):
        np.testing.assert_array_equal(product.perm, g.perm)
        np.testing.assert_array_equal(product.scale, g.scale)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_inverse(name, size):
    group, (g, _, _) = GROUPS[name], _three(name, size)
    e = group.identity(size, jnp.float64)
    _same(group.mul(group.inv(g), g), e)
    _same(group.mul(g, group.inv(g)), e)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_associative(name, size):
    group, (f, g, h) = GROUPS[name], _three(name, size)
    _same(group.mul(group.mul(h, g), f), group.mul(h, group.mul(g, f)))


@pytest.mark.parametrize(("name", "size"), CASES)
def test_closed(name, size):
    group, (g, h, _) = GROUPS[name], _three(name, size)
    for element in (group.identity(size, jnp.float64), g, group.mul(h, g)):
        group.check(element, size)
    group.check(group.inv(g), size)


@pytest.mark.parametrize("power", [1, 0, -1, -2])
@pytest.mark.parametrize(("name", "size"), CASES)
def test_moving_is_a_left_action(name, size, power):
    group, (g, h, _) = GROUPS[name], _three(name, size)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size)))
    once = group.move(group.mul(h, g), x, 1, power)
    twice = group.move(h, group.move(g, x, 1, power), 1, power)
    np.testing.assert_allclose(once, twice, rtol=RTOL, atol=0)


def test_the_group_is_not_commutative():
    """Else a swapped product would pass every axiom."""
    for name in GROUPS:
        g, h, _ = _three(name, 5)
        product, swapped = GROUPS[name].mul(h, g), GROUPS[name].mul(g, h)
        assert not np.array_equal(product.perm, swapped.perm)


@pytest.mark.parametrize("name", MOVED)
def test_axioms_hold_space_by_space(name):
    spec = NETS[name].net.spec
    f, g, h = (element_of(spec, seed) for seed in range(3))
    mul, e = functools.partial(spaces.mul, spec), spaces.identity(spec, jnp.float64)
    for space in spec.spaces:
        _same(mul(mul(h, g), f)[space.name], mul(h, mul(g, f))[space.name])
        _same(mul(spaces.inv(spec, g), g)[space.name], e[space.name])
        _same(mul(g, spaces.inv(spec, g))[space.name], e[space.name])
        _same(mul(e, g)[space.name], g[space.name])
