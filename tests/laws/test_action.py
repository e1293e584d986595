"""The action of elements: identity, composition, its matrix, its behaviour in JAX."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qejax import spaces
from tests.layer_specs import fast_jit
from tests.registry import (
    MLPS_AND_CNNS,
    MOVED,
    NETS,
    RTOL,
    TRANSFORMERS,
    compiled,
    element_of,
    gap,
    same_element,
    theta_of,
)
from tests.rho import offset, rho

DTYPES = (jnp.float32, jnp.float64)


DENSE = (*MLPS_AND_CNNS, "no norm", "rms without scale, rotary, grouped")
"""Where the matrix of the library is compared as well; a transformer's is slow."""


def close(name: str, got: Any, expected: Any) -> None:
    """Entry by entry; where matrices sum entries, relative to a leaf's largest."""
    if name in TRANSFORMERS:
        chex.assert_trees_all_equal_shapes_and_dtypes(got, expected)
        assert gap(got, expected) <= RTOL
    else:
        chex.assert_trees_all_close(got, expected, rtol=RTOL, atol=0, strict=True)


def by_leaf(name: str, flat: Any) -> list[np.ndarray]:
    """A flat vector, or a matrix with such rows, leaf by leaf."""
    ends = np.cumsum([leaf.size for leaf in NETS[name].net.spec.leaves])
    return np.split(np.asarray(flat), ends[:-1])


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_identity_changes_no_number(name):
    """A matrix and a shift add zeros: a zero may lose its sign."""
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    moved = compiled(name).act(spaces.identity(spec, jnp.float64), theta)
    chex.assert_trees_all_equal(moved, theta, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MLPS_AND_CNNS)
def test_identity_changes_no_bit(name, dtype):
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0, dtype)
    # Signed zeros, infinities and NaN are kept too.
    first = spec.leaves[0].path.split("/")
    odd = np.array(theta[first[0]][first[1]])
    odd.flat[:4] = (-0.0, np.inf, -np.inf, np.nan)[: odd.size]
    theta[first[0]][first[1]] = jnp.asarray(odd, dtype)
    moved = compiled(name).act(spaces.identity(spec, dtype), theta)
    chex.assert_trees_all_equal_structs(moved, theta)
    for got, expected in zip(
        jax.tree.leaves(moved), jax.tree.leaves(theta), strict=True
    ):
        assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("name", MOVED)
def test_composition(name):
    spec, run = NETS[name].net.spec, compiled(name)
    g, h, theta = element_of(spec, 0), element_of(spec, 1), theta_of(spec, 0)
    once, twice = run.act(run.mul(h, g), theta), run.act(h, run.act(g, theta))
    close(name, once, twice)
    if any(space.size > 1 for space in spec.spaces):  # One unit commutes.
        assert gap(run.act(run.mul(g, h), theta), once) > 1e-3


@pytest.mark.parametrize("name", MOVED)
def test_inverse_comes_back(name):
    spec, run = NETS[name].net.spec, compiled(name)
    g, theta = element_of(spec, 0), theta_of(spec, 0)
    back = run.act(run.inv(g), run.act(g, theta))
    close(name, back, theta)


@pytest.mark.parametrize("name", MOVED)
def test_axioms_hold_space_by_space(name):
    spec, run = NETS[name].net.spec, compiled(name)
    f, g, h = (element_of(spec, seed) for seed in range(3))
    e = spaces.identity(spec, jnp.float64)
    back = run.inv(g)
    pairs = (
        (run.mul(run.mul(h, g), f), run.mul(h, run.mul(g, f))),
        (run.mul(back, g), e),
        (run.mul(g, back), e),
        (run.mul(e, g), g),
        (run.mul(g, e), g),
    )
    for got, expected in pairs:
        for space in spec.spaces:
            same_element(space.group, got[space.name], expected[space.name])
        for shift in spec.shifts:  # The identity's is zero: relative to g's.
            size = max(float(jnp.max(jnp.abs(x[shift.name]))) for x in (got, g))
            np.testing.assert_allclose(
                got[shift.name], expected[shift.name], rtol=0, atol=RTOL * size
            )


@pytest.mark.parametrize("name", NETS)
def test_the_dense_matrix_is_the_action(name):
    spec, run = NETS[name].net.spec, compiled(name)
    g, theta = element_of(spec, 0), theta_of(spec, 0)
    oracle, added = rho(spec, g), offset(spec, g)
    flat = np.asarray(run.ravel(theta))
    assert flat.shape == (spec.num_parameters,)
    moved = run.ravel(run.act(g, theta))
    close(name, by_leaf(name, moved), by_leaf(name, oracle @ flat + added))
    if name in DENSE:
        dense = fast_jit(functools.partial(spaces.dense_matrix, spec))(g)
        close(name, by_leaf(name, dense), by_leaf(name, oracle))
    if spec.shifts:
        np.testing.assert_allclose(spaces.offset(spec, g), added, rtol=RTOL, atol=0)


SOME = ("mixed", "cnn, uneven windows and strides, mixed", "residual cnn")
UNSHIFTED, SHIFTED = "language, rotary, grouped, gated", "no norm"


@pytest.mark.parametrize("name", [*SOME, UNSHIFTED])
def test_channels_move_together(name):
    spec, run = NETS[name].net.spec, compiled(name)
    g = element_of(spec, 0)
    thetas = [theta_of(spec, seed) for seed in range(3)]
    each = [spaces.views(spec, theta) for theta in thetas]
    feats = {
        leaf.path: jnp.stack([one[leaf.path] for one in each], -1)
        for leaf in spec.leaves
    }
    moved = fast_jit(functools.partial(spaces.act_features, spec))(g, feats)
    for channel, theta in enumerate(thetas):
        alone = spaces.views(spec, run.act(g, theta))
        for path in feats:
            got = moved[path][..., channel]
            if name in TRANSFORMERS:  # Sums in another order.
                assert gap(got, alone[path]) < 1e-13
            else:
                np.testing.assert_array_equal(got, alone[path])


def test_channels_are_not_shifted():
    spec = NETS[SHIFTED].net.spec
    with pytest.raises(
        ValueError, match=r"act_features: expected a spec without shifts, got \['embed"
    ):
        spaces.act_features(spec, element_of(spec, 0), {})


@pytest.mark.parametrize("name", SOME)
def test_jit_changes_nothing(name):
    spec = NETS[name].net.spec
    g, theta = element_of(spec, 0), theta_of(spec, 0)
    chex.assert_trees_all_close(
        compiled(name).act(g, theta), spaces.act(spec, g, theta), rtol=1e-15, atol=0
    )


def test_jit_changes_nothing_of_a_transformer():
    spec = NETS[SHIFTED].net.spec
    g, theta = element_of(spec, 0), theta_of(spec, 0)
    assert gap(compiled(SHIFTED).act(g, theta), spaces.act(spec, g, theta)) < 1e-13


@pytest.mark.parametrize("name", [*SOME, SHIFTED])
def test_vmap_is_a_loop(name):
    spec, run = NETS[name].net.spec, compiled(name)
    thetas = [theta_of(spec, seed) for seed in range(3)]
    elements = [element_of(spec, seed) for seed in range(3)]
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    many = fast_jit(jax.vmap(functools.partial(spaces.act, spec)))
    together = many(stack(*elements), stack(*thetas))
    alone = [run.act(g, theta) for g, theta in zip(elements, thetas, strict=True)]
    if name in TRANSFORMERS:
        assert gap(together, stack(*alone)) < 1e-13
    else:
        chex.assert_trees_all_close(together, stack(*alone), rtol=1e-15, atol=0)


def test_one_compilation_for_all_elements():
    spec = NETS["mixed"].net.spec

    @jax.jit
    @chex.assert_max_traces(n=1)
    def act(g, theta):
        return spaces.act(spec, g, theta)

    for seed in range(4):
        jax.block_until_ready(act(element_of(spec, seed), theta_of(spec, seed)))


@pytest.mark.parametrize("name", ["mixed", "cnn, same, flatten", UNSHIFTED, SHIFTED])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("of_scales", DTYPES)
def test_the_weights_keep_their_dtype(name, dtype, of_scales):
    spec = NETS[name].net.spec
    g, theta = element_of(spec, 0, dtype=of_scales), theta_of(spec, 0, dtype)
    moved = jax.eval_shape(functools.partial(spaces.act, spec), g, theta)
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}


def test_the_gradient_goes_through_the_inverse():
    """`d <c, act(g, t)> / dt = rho(g)^T c`: gathers and their scatters agree."""
    name = "cnn, uneven windows and strides, mixed"
    spec, run = NETS[name].net.spec, compiled(name)
    g, theta, c = element_of(spec, 0, 10.0), theta_of(spec, 0), theta_of(spec, 1)

    def pair(theta):
        moved = spaces.ravel(spec, spaces.act(spec, g, theta))
        return jnp.vdot(spaces.ravel(spec, c), moved)

    got = run.ravel(fast_jit(jax.grad(pair))(theta))
    expected = rho(spec, g).T @ np.asarray(run.ravel(c))
    np.testing.assert_allclose(np.asarray(got), expected, rtol=RTOL, atol=0)


LAYOUTS = (
    "width one",
    "one hidden layer",
    "equal widths",
    "mixed",
    "residual tanh, then narrow",
)
"""The pool: a new shape is a compilation, a new seed is a call."""


@given(
    name=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 10**6),
    exponent=st.floats(0, 6),
    twin=st.booleans(),
)
def test_act_laws(name, seed, exponent, twin):
    spec, run = NETS[name].net.spec, compiled(name)
    theta = theta_of(spec, seed)
    if twin:  # The weights of all units of a layer coincide.
        theta = jax.tree.map(lambda leaf: jnp.ones_like(leaf) * leaf.ravel()[0], theta)
    g = element_of(spec, seed, 10.0**exponent)
    h = element_of(spec, seed + 1, 10.0**exponent)
    moved = run.act(g, theta)
    chex.assert_trees_all_close(
        run.act(run.mul(h, g), theta), run.act(h, moved), rtol=RTOL, atol=0
    )
    chex.assert_trees_all_close(run.act(run.inv(g), moved), theta, rtol=RTOL, atol=0)
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(4, *NETS[name].inputs)))
    # Relative to the largest output: a single one may be what large terms leave.
    assert gap(run.apply(moved, x), run.apply(theta, x)) <= RTOL
