"""Elements of the matrix groups: how they act, what is sampled, what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import groups
from tests.layer_specs import fast_jit
from tests.registry import COND, GROUPS, RTOL, SIZES, unit_element

MATRIX = [name for name, row in GROUPS.items() if row.monomial is None]
LINEAR = ("general_linear", "absorbed", "linear_stream")


def _element(name: str, size: int, seed: int = 7) -> jax.Array:
    return jnp.asarray(unit_element(np.random.default_rng(seed), name, size))


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name in MATRIX for size in SIZES[name]]
)
def test_move_multiplies_by_the_matrix_or_its_inverse_transpose(name, size):
    row, g = GROUPS[name], _element(name, size)
    x, draw = jnp.asarray(np.random.default_rng(0).normal(size=(2, size, 3))), {}
    for power in (1, 0, -1):
        draw[power] = np.asarray(row.matrix(g, power))
        expected = np.einsum("ij,bjc->bic", draw[power], x)
        np.testing.assert_allclose(row.move(g, x, 1, power), expected, atol=1e-12)
    np.testing.assert_array_equal(draw[0], np.eye(size))
    # What reads the units pairs with them: (A y) . (A^-T w) = y . w.
    np.testing.assert_allclose(draw[1].T @ draw[-1], np.eye(size), atol=RTOL)
    if size == SIZES[name][-1]:  # The small ones have two elements, or one.
        assert np.max(np.abs(draw[1] - np.eye(size))) > 1e-2


@pytest.mark.parametrize("name", ["orthogonal", "orthogonal_ones"])
def test_orthogonal_samples_keep_lengths_and_the_ones(name):
    a = np.asarray(GROUPS[name].sample(jax.random.key(0), 4, COND, jnp.float64))
    np.testing.assert_allclose(a @ a.T, np.eye(4), atol=1e-14)
    fixed = np.max(np.abs(a @ np.ones(4) - 1))
    assert (fixed < 1e-14) == (name == "orthogonal_ones")


def test_a_single_unit_that_stays():
    sample = GROUPS["orthogonal_ones"].sample
    one = sample(jax.random.key(0), 1, COND, jnp.float64)
    np.testing.assert_array_equal(one, [[1.0]])


def test_the_basis_of_what_sums_to_zero():
    basis = groups.fixed_ones_basis(5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-15)
    np.testing.assert_allclose(basis.sum(0), 0, atol=1e-15)


def test_rotary_elements_are_complex_numbers_on_pairs():
    """And commute with a rotation of every pair, which a matrix does not."""
    g, h = _element("rotary", 4), _element("rotary", 4, 8)
    z, w = (np.asarray(one) @ [1, 1j] for one in (g, h))
    product = np.asarray(GROUPS["rotary"].mul(h, g)) @ [1, 1j]
    np.testing.assert_allclose(product, w * z, rtol=1e-14)
    y = np.random.default_rng(0).normal(size=4)
    moved = np.asarray(GROUPS["rotary"].move(g, jnp.asarray(y), 0, 1))
    np.testing.assert_allclose(moved[:2] + 1j * moved[2:], z * (y[:2] + 1j * y[2:]))
    angles = np.arange(1.0, 3.0)
    turned = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], -1))
    rotation = np.asarray(GROUPS["rotary"].matrix(turned, 1))
    for power in (1, -1):
        a = np.asarray(GROUPS["rotary"].matrix(g, power))
        np.testing.assert_allclose(a @ rotation, rotation @ a, atol=1e-12)
    b = np.asarray(_element("general_linear", 4))
    assert np.max(np.abs(b @ rotation - rotation @ b)) > 1e-2


def _samples(name: str, size: int) -> np.ndarray:
    def draw(key: jax.Array) -> Any:
        return GROUPS[name].sample(key, size, COND, jnp.float64)

    return np.asarray(fast_jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 64)))


def test_samples_have_the_condition_that_was_asked_for():
    matrices = _samples("general_linear", 4)
    np.testing.assert_allclose(np.linalg.cond(matrices), COND, rtol=1e-10)
    # As often one way as the other.
    assert np.all(np.abs(matrices.mean(0)) < 0.3 * COND**0.5)


@pytest.mark.parametrize(("name", "size"), [("absorbed", 1), ("rotary", 4)])
def test_samples_have_sizes_in_the_spread(name, size):
    samples = _samples(name, size)
    sizes = np.linalg.norm(samples, axis=-1)
    assert 0.1 <= sizes.min() < 0.2
    assert 5 < sizes.max() <= 10
    assert 0.2 < np.mean(samples > 0) < 0.8


@pytest.mark.parametrize("name", MATRIX)
def test_totals_that_are_balanced(name):
    balanced = {total for total in range(-2, 3) if GROUPS[name].balanced(total)}
    assert balanced == ({-2, 0, 2} if name.startswith("orthogonal") else {0})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", MATRIX)
def test_dtype_is_that_asked_for(name, dtype):
    row = GROUPS[name]

    def elements(key: jax.Array) -> Any:
        g, e = row.sample(key, 4, 10.0, dtype), row.identity(4, dtype)
        return g, e, row.mul(g, e), row.inv(g), row.matrix(g, -1)

    found = jax.eval_shape(elements, jax.random.key(0))
    assert {element.dtype for element in found} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", [*LINEAR, "rotary"])
def test_a_degree_is_no_power_of_a_matrix(name):
    with pytest.raises(
        ValueError, match=r"axes should have power 1, 0 or -1, got 2. A map of"
    ):
        GROUPS[name].matrix(_element(name, 4), 2)


EYE = np.eye(4)
PAIRS = np.tile([1.0, 0.0], (2, 1))
WRONG: dict[str, tuple[str, np.ndarray, str]] = {
    "shape": (
        "general_linear",
        np.eye(3),
        r"general_linear\(4\): a matrix element should have shape \(4, 4\), got "
        r"\(3, 3\)",
    ),
    "pairs for rotary": (
        "rotary",
        EYE,
        r"rotary\(4\): a matrix element should have shape \(2, 2\), got \(4, 4\)",
    ),
    "not finite": (
        "absorbed",
        EYE + np.diag([0, np.nan, np.inf, 0]),
        r"absorbed\(4\): a matrix element should be finite, got 2 entries that are "
        r"not, the first at \(1, 1\)\. Draw it with qejax.spaces.sample",
    ),
    "singular": (
        "linear_stream",
        EYE * [1, 1, 0, 1],
        r"linear_stream\(4\): the matrix should be invertible, got a condition number "
        r"of inf \(at most 1e\+12\)\. Draw it with qejax.spaces.sample",
    ),
    "nearly singular": (
        "general_linear",
        EYE * [1, 1, 1e-13, 1],
        "the matrix should be invertible, got a condition number of 1e.13",
    ),
    "stretched": (
        "orthogonal",
        EYE * [1, 1, 1, 1.01],
        r"orthogonal\(4\): A A\^T should be the identity, got a difference of 0.0201",
    ),
    "stretched, ones": (
        "orthogonal_ones",
        EYE * 2,
        r"orthogonal_ones\(4\): A A\^T should be the identity, got a diff.* of 3",
    ),
    "a flip moves the ones": (
        "orthogonal_ones",
        EYE * [1, 1, 1, -1],
        r"orthogonal_ones\(4\): rows should sum to one.*got a difference of 2",
    ),
    "zero": (
        "rotary",
        PAIRS * [[1], [0]],
        r"complex numbers should not be zero, got 1 of 2 that are, the first at 1",
    ),
    "rotary not finite": (
        "rotary",
        PAIRS * [[1], [np.nan]],
        "a matrix element should be finite, got 2 entries that are not",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_elements_are_refused(case):
    name, wrong, says = WRONG[case]
    with pytest.raises(ValueError, match=says):
        GROUPS[name].check(jnp.asarray(wrong), 4)
    GROUPS[name].check(_element(name, 4), 4)
