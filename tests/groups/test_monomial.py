"""Elements of the monomial groups: what moves, by which factor, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax.groups import Monomial, group
from tests.registry import GROUPS, SIZES

MONOMIAL = ("permutation", "positive_scale", "sign", "dihedral")
POWERS = (1, 0, -1, -3)


def _element(name: str, size: int) -> Monomial:
    return GROUPS[name].sample(jax.random.key(7), size, 10.0, jnp.float64)


def test_the_others_are_matrix_groups():
    assert [n for n, row in GROUPS.items() if row.monomial] == list(MONOMIAL)


def test_gather_convention():
    """`perm[i]` is the old index now at `i`; scales belong to the new position."""
    g = Monomial(jnp.array([2, 0, 1]), jnp.array([1.0, 2.0, 4.0]))
    moved = GROUPS["positive_scale"].move(g, jnp.array([10.0, 20.0, 30.0]), 0, 1)
    np.testing.assert_array_equal(moved, [30.0, 20.0, 80.0])


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("size", SIZES["sign"])
@pytest.mark.parametrize("name", MONOMIAL)
def test_move_matrix_and_monomial_agree(name, size, power):
    row, g = GROUPS[name], _element(name, size)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size, 3)))
    assert row.monomial is not None
    perm, factor = row.monomial(g, power)
    scale = np.ones(size) if factor is None else np.asarray(factor)
    expected = np.asarray(x)[:, np.asarray(perm)] * scale[None, :, None]
    np.testing.assert_allclose(row.move(g, x, 1, power), expected, rtol=1e-15)
    by_matrix = np.einsum("ij,bjc->bic", np.asarray(row.matrix(g, power)), x)
    np.testing.assert_allclose(by_matrix, expected, rtol=1e-14)


@pytest.mark.parametrize("name", MONOMIAL)
def test_power_zero_permutes_only(name):
    row, g = GROUPS[name], _element(name, 5)
    x = jnp.arange(5.0)
    np.testing.assert_array_equal(row.move(g, x, 0, 0), np.asarray(g.perm, float))
    assert row.monomial is not None
    assert row.monomial(g, 0)[1] is None


@pytest.mark.parametrize(
    ("name", "balanced"),
    [
        ("permutation", {-2, -1, 0, 1, 2}),
        ("positive_scale", {0}),
        ("sign", {-2, 0, 2}),
    ],
)
def test_balanced_totals_are_those_that_the_group_fixes(name, balanced):
    assert {t for t in range(-2, 3) if GROUPS[name].balanced(t)} == balanced
    scale = np.asarray(_element(name, 5).scale)
    fixed = {t for t in range(-2, 3) if np.allclose(scale**t, 1)}
    if name != "permutation":
        assert fixed == balanced


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", MONOMIAL)
def test_dtype_is_that_asked_for(name, dtype):
    row = GROUPS[name]

    def elements(key: jax.Array) -> Any:
        g, e = row.sample(key, 4, 10.0, dtype), row.identity(4, dtype)
        return (g, e, row.mul(g, e), row.inv(g)), row.matrix(g, -1)

    found, matrix = jax.eval_shape(elements, jax.random.key(0))
    for element in found:
        assert element.scale.dtype == dtype
        assert jnp.issubdtype(element.perm.dtype, jnp.integer)
    assert matrix.dtype == dtype


def test_sampled_scales_stay_in_the_spread():
    sample = GROUPS["positive_scale"].sample
    scale = np.asarray(sample(jax.random.key(0), 2000, 100.0, jnp.float64).scale)
    assert np.all((scale >= 1e-2) & (scale <= 1e2))
    assert abs(np.mean(np.log(scale))) < 0.2  # log-uniform, so centred


@pytest.mark.parametrize(
    ("perm", "scale", "says"),
    [
        ([0, 1], [1.0, 1.0, 1.0], r"`perm` should have shape \(3,\), got \(2,\)"),
        ([0, 1, 2], [1.0], r"`scale` should have shape \(3,\), got \(1,\)"),
        ([0, 1, 1], [1.0, 1.0, 1.0], r"hold each of 0..2 once, got \[0, 1, 1\]"),
        ([0, 1, 3], [1.0, 1.0, 1.0], r"hold each of 0..2 once, got \[0, 1, 3\]"),
        ([2, 1, 0], [1.0, 0.5, 1.0], r"got \[0.5\] at \[1\]"),
    ],
)
@pytest.mark.parametrize("name", ["permutation", "sign"])
def test_wrong_elements_are_refused(name, perm, scale, says):
    with pytest.raises(ValueError, match=f"group element on 3 units: .*{says}"):
        GROUPS[name].check(Monomial(jnp.array(perm), jnp.array(scale)), 3)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_scales_must_be_positive_and_finite(bad):
    g = Monomial(jnp.arange(2), jnp.array([1.0, bad]))
    with pytest.raises(ValueError, match="`scale` should be positive and finite, got"):
        GROUPS["positive_scale"].check(g, 2)


def test_an_unknown_group_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"group 'rotation' is unknown: .*'sign'"):
        group("rotation")
    assert group("sign") is GROUPS["sign"]
