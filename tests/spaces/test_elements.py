"""Elements of a spec: one per unit space, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.spaces._move import gather_axes, multiply_axes
from tests.registry import NETS, element_of, theta_of

SPEC = NETS["mixed"].net.spec
HEADS = NETS["vit, class token"].net.spec
ROTARY = NETS["language, rotary, grouped, gated"].net.spec
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


@pytest.mark.parametrize("spread", [0.5, float("nan"), float("inf")])
def test_spread_must_be_finite_and_not_below_one(spread):
    says = rf"spread should be at least 1 and finite, got {spread}"
    with pytest.raises(ValueError, match=says):
        spaces.sample(KEY, SPEC, spread)


FORMS = {
    "one scale for all units": ({"scale": jnp.ones(1)}, r"`scale`.*\(4,\).*\(1,\)"),
    "a batch of elements": (
        {"perm": jnp.arange(4)[None], "scale": jnp.ones((1, 4))},
        r"`perm` should be integer of shape \(4,\).*got int.*\(1, 4\).*use jax\.vmap",
    ),
    "no axis": ({"perm": jnp.asarray(3)}, r"`perm`.*of shape \(\)"),
    "a floating permutation": ({"perm": jnp.arange(4.0)}, "integer.*got float64"),
    "integer scales": ({"scale": jnp.ones(4, int)}, "floating.*got int64"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_elements_of_another_form_are_refused(form, wrap):
    fields, says = FORMS[form]
    g = element_of(SPEC, 0)
    g["hidden_0"] = g["hidden_0"]._replace(**fields)
    act = wrap(lambda g: spaces.act(SPEC, g, theta_of(SPEC, 0)))
    with pytest.raises(ValueError, match=f"unit space 'hidden_0'.*{says}"):
        act(g)


def test_elements_must_be_monomials():
    g = element_of(SPEC, 0)
    cases: Any = ((None, "NoneType"), (jnp.arange(4), "ArrayImpl"))
    for wrong, name in cases:
        with pytest.raises(
            ValueError, match=rf"'hidden_0': expected a Monomial.*got {name}\."
        ):
            spaces.act(SPEC, {**g, "hidden_0": wrong}, theta_of(SPEC, 0))
    nothing: Any = None
    with pytest.raises(
        ValueError, match=r"should be a dict with one entry.*got NoneType"
    ):
        spaces.act(SPEC, nothing, theta_of(SPEC, 0))


QK, VALUES = "block_00.attention.qk", "block_00.attention.value_shift"
MATRICES = {
    "one matrix for all heads": (QK, jnp.eye(2), r"`matrix`.*\(2, 2, 2\).*\(2, 2\)"),
    "another width": (QK, jnp.ones((2, 3, 3)), r"`matrix`.*\(2, 2, 2\).*\(2, 3, 3\)"),
    "integers": (QK, jnp.ones((2, 2, 2), int), "`matrix` should be floating.*got int"),
    "no array": (QK, None, r"`matrix` should be floating .*2\), got NoneType"),
    "heads without a scale": (
        "block_00.attention.heads",
        jnp.eye(2),
        "expected a Monomial",
    ),
    "a shift of another shape": (
        VALUES,
        jnp.ones(4),
        r"`array` should be floating of shape \(2, 2\).*\(4,\)",
    ),
}


@pytest.mark.parametrize("case", MATRICES)
def test_matrices_and_shifts_of_another_form_are_refused(case):
    name, wrong, says = MATRICES[case]
    g = spaces.identity(HEADS, jnp.float64)
    spaces.check_spaces(HEADS, g)
    with pytest.raises(ValueError, match=f"group element of .*{name}'.*{says}"):
        spaces.check_spaces(HEADS, {**g, name: wrong})


VALUES_THAT_ARE_NOT = {
    "singular": (
        QK,
        lambda a: a.at[1, 0].set(0),
        r", at 1 of 'block_00.attention.heads': general_linear\(2\): .* "
        r"invertible, got a condition.*Draw it with",
    ),
    "not finite": (
        QK,
        lambda a: a.at[1].set(jnp.nan),
        r", at 1 of .*heads': .*be finite, got 4 entries .*, the first at \(0, 0\)",
    ),
    "a scale that is zero": (
        "block_00.norm_1.scale",
        lambda a: a.at[2].set(0),
        r"absorbed\(1\): the matrix should be invertible",
    ),
    "an infinite shift": (
        VALUES,
        lambda a: a.at[1, 1].set(jnp.inf),
        r": entries should be finite, got 1 that are not, the first at \(1, 1\)\. Draw",
    ),
}


@pytest.mark.parametrize("case", VALUES_THAT_ARE_NOT)
def test_values_of_matrices_and_shifts_are_checked(case):
    name, change, says = VALUES_THAT_ARE_NOT[case]
    g = spaces.identity(HEADS, jnp.float64)
    spaces.check_elements(HEADS, g)
    with pytest.raises(ValueError, match=f"{name}'.*{says}"):
        spaces.check_elements(HEADS, {**g, name: change(g[name])})


@pytest.mark.parametrize(
    "name", ["mixed", "cnn, same, flatten", "residual cnn", "no norm"]
)
def test_weights_and_elements_of_numpy_are_moved(name):
    """A zoo holds its weights as NumPy arrays."""
    spec = NETS[name].net.spec
    g, theta = element_of(spec, 0), theta_of(spec, 0)
    plain = jax.tree.map(np.asarray, (g, theta))
    expected = spaces.act(spec, g, theta)
    for moved in (spaces.act(spec, g, plain[1]), spaces.act(spec, *plain)):
        jax.tree.map(np.testing.assert_array_equal, moved, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda g: spaces.act(SPEC, g, theta_of(SPEC, 0)),
        lambda g: spaces.act_features(SPEC, g, {}),
        lambda g: spaces.act_units(SPEC, g, {}),
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
    says = rf"one entry for each unit space and shift, {len(g)} in all, got "
    with pytest.raises(
        ValueError, match=says + "1 too few and 0 too many: 'hidden_0' is missing"
    ):
        call(missing)
    with pytest.raises(
        ValueError, match=says + "0 too few and 1 too many: 'inputs' is unexpected"
    ):
        call({**g, "inputs": g["hidden_0"]})
    with pytest.raises(
        ValueError, match=r"unit space 'hidden_0': `perm`.*\(4,\).*shape\s+\(5,\)"
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


def test_units_of_heads_move_with_their_head():
    """Groups permute, queries within a group, and every head has its own matrix."""
    spec, at = ROTARY, "block_00.attention"
    g = element_of(spec, 3)
    outer, inner = (np.asarray(g[f"{at}.{n}"].perm) for n in ("heads", "queries"))
    assert outer.tolist() == [1, 0]
    draw = np.random.default_rng(1)
    x = {f"{at}.{n}": draw.normal(size=(2, 2, 3)) for n in ("queries", "vo")}
    x[f"{at}.heads"] = draw.normal(size=(2, 3))
    units = jax.tree.map(jnp.asarray, x)
    for power in (1, -1):
        moved = spaces.act_units(spec, g, units, power)
        np.testing.assert_array_equal(moved[f"{at}.heads"], x[f"{at}.heads"][outer])
        for new, old in enumerate(outer):
            np.testing.assert_array_equal(
                moved[f"{at}.queries"][new], x[f"{at}.queries"][old][inner[new]]
            )
            matrix = np.asarray(g[f"{at}.vo"])[new]
            matrix = matrix if power == 1 else np.linalg.inv(matrix).T
            np.testing.assert_allclose(
                moved[f"{at}.vo"][new], matrix @ x[f"{at}.vo"][old], rtol=1e-12
            )


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


def test_products_permute_units_of_heads_as_gathers_do():
    """Axis 2 by one of three permutations, that of the new position along axis 1."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    draw = np.random.default_rng(1)
    outer, inner = draw.permutation(3), np.stack([draw.permutation(4) for _ in "abc"])
    expected = np.stack(
        [np.asarray(x)[:, old][:, inner[new]] for new, old in enumerate(outer)], 1
    )
    perms = {1: jnp.asarray(outer), 2: jnp.asarray(inner)}
    for permute in (gather_axes, multiply_axes):
        np.testing.assert_array_equal(permute(x, perms, {2: 1}), expected)
