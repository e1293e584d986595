"""Elements of a spec: one per unit space, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.spaces._act import gather_axes, multiply_axes
from tests.registry import NETS, element_of, theta_of

SPEC = NETS["mixed"].net.spec
KEY = jax.random.key(0)


def test_samples_are_elements_and_keys_matter():
    g = spaces.sample(KEY, SPEC, 100.0, jnp.float64)
    spaces.check_elements(SPEC, g)
    assert list(g) == [space.name for space in SPEC.spaces]
    again = spaces.sample(KEY, SPEC, 100.0, jnp.float64)
    jax.tree.map(np.testing.assert_array_equal, g, again)
    other = spaces.sample(jax.random.key(1), SPEC, 100.0, jnp.float64)
    assert any(
        not np.array_equal(g[name].scale, other[name].scale)
        or not np.array_equal(g[name].perm, other[name].perm)
        for name in g
    )


def test_spread_must_not_be_below_one():
    with pytest.raises(ValueError, match=r"spread should be at least 1, got 0.5"):
        spaces.sample(KEY, SPEC, 0.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda g: spaces.act(SPEC, g, theta_of(SPEC, 0)),
        lambda g: spaces.act_features(SPEC, g, {}),
        lambda g: spaces.mul(SPEC, g, element_of(SPEC, 0)),
        lambda g: spaces.mul(SPEC, element_of(SPEC, 0), g),
        lambda g: spaces.inv(SPEC, g),
        lambda g: spaces.dense_matrix(SPEC, g),
        lambda g: spaces.check_elements(SPEC, g),
    ],
)
def test_elements_must_cover_the_spaces(call):
    g = element_of(SPEC, 0)
    missing = {name: one for name, one in g.items() if name != "hidden_0"}
    with pytest.raises(ValueError, match=r"one entry per unit space: expected .*hid"):
        call(missing)
    with pytest.raises(
        ValueError, match="unit space 'hidden_0': expected 4 units, got 5"
    ):
        call({**g, "hidden_0": g["hidden_1"]})


def test_values_are_checked_outside_jit_only():
    g = element_of(SPEC, 0)
    g["hidden_0"] = g["hidden_0"]._replace(scale=-g["hidden_0"].scale)
    spaces.act(SPEC, g, theta_of(SPEC, 0))
    with pytest.raises(ValueError, match="unit space 'hidden_0': group element on 4"):
        spaces.check_elements(SPEC, g)


def test_units_move_with_their_power():
    g = element_of(SPEC, 0, 10.0)
    units = {
        space.name: jnp.asarray(np.random.default_rng(1).normal(size=(space.size, 2)))
        for space in SPEC.spaces
    }
    for power in (0, 1, -2):
        moved = spaces.act_units(SPEC, g, units, power)
        for name, x in units.items():
            scale = np.asarray(g[name].scale)[:, None] ** power
            expected = scale * np.asarray(x)[np.asarray(g[name].perm)]
            np.testing.assert_allclose(moved[name], expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_products_permute_as_gathers_do(dtype):
    """The path of TPUs against the path of the others, without a scale."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), dtype)
    draw = np.random.default_rng(1)
    perms = {1: jnp.asarray(draw.permutation(3)), 2: jnp.asarray(draw.permutation(4))}
    expected = np.asarray(x)[:, np.asarray(perms[1])][:, :, np.asarray(perms[2])]
    for permute in (gather_axes, multiply_axes):
        moved = permute(x, perms)
        assert moved.dtype == dtype
        np.testing.assert_array_equal(moved, expected)
