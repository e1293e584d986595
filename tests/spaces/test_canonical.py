"""Canonical form: invariant, idempotent, on the orbit, at any scale, dead units too."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import _trees, spaces
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, Wire, conv, dense
from tests.layer_specs import fast_jit

RTOL = 1e-10


def mlp_spec(widths, groups, degrees=None):
    degrees = degrees or [1] * len(groups)
    hidden = [
        Wire(n, f"hidden_{l}", d)
        for l, (n, d) in enumerate(zip(widths[1:-1], degrees, strict=True))
    ]
    wires = [Wire(widths[0]), *hidden, Wire(widths[-1])]
    leaves = [
        leaf
        for l, (source, out) in enumerate(itertools.pairwise(wires))
        for leaf in dense(f"layer_{l:02d}", source, out)
    ]
    units = [
        UnitSpace(f"hidden_{l}", wire.size, group)
        for l, (wire, group) in enumerate(zip(hidden, groups, strict=True))
    ]
    return WeightSpec(tuple(units), tuple(leaves))


def residual_spec(group):
    stream, inner = Wire(4, "stream"), Wire(3, "inner")
    return WeightSpec(
        (UnitSpace("stream", 4, group), UnitSpace("inner", 3, group)),
        (
            *conv("stem", (2, 2), Wire(2), stream),
            *conv("block_in", (3,), stream, inner),
            *conv("block_out", (3,), inner, stream),
            Leaf("mix", (Axis(4, "stream", -1), Axis(4, "stream", 1))),
            *dense("head", Wire(4, "stream", blocks=2), Wire(2)),
        ),
    )


S, T, P = "positive_scale", "sign", "permutation"
SPECS = {
    "relu": mlp_spec((3, 4, 5, 2, 2), (S, S, S)),
    "tanh": mlp_spec((3, 4, 5, 2, 2), (T, T, T)),
    "mixed": mlp_spec((3, 4, 1, 2, 2), (S, T, P)),
    "degrees": mlp_spec((3, 4, 5, 2, 2), (S, S, S), (2, 1, 3)),
    "residual_relu": residual_spec(S),
    "residual_tanh": residual_spec(T),
    "no_hidden": mlp_spec((3, 2), ()),
}


def weights(spec, seed, dtype=jnp.float64):
    rng = np.random.default_rng(seed)
    leaves = {
        leaf.path: jnp.asarray(rng.standard_normal(leaf.stored), dtype)
        for leaf in spec.leaves
    }
    return _trees.nest(leaves)


def permutation_part(g):
    return {k: v._replace(scale=jnp.ones_like(v.scale)) for k, v in g.items()}


def assert_close(got, expected, rtol=RTOL, atol=1e-13):
    got, expected = _trees.flatten(got), _trees.flatten(expected)
    assert list(got) == list(expected)
    for path, leaf in expected.items():
        np.testing.assert_allclose(got[path], leaf, rtol, atol, err_msg=path)


def shared(function):
    """One program for each spec, whatever test calls it."""
    program = functools.cache(lambda spec: fast_jit(functools.partial(function, spec)))
    return lambda spec, *args: program(spec)(*args)


canonical_form = shared(spaces.canonical_form)
act = shared(spaces.act)


def zero_unit(theta, path, unit):
    kernel, bias = theta[path]["kernel"], theta[path]["bias"]
    layer = {
        "kernel": kernel.at[..., unit].set(0),
        "bias": bias.at[unit].set(0),
    }
    return {**theta, path: layer}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.one_in(3)
def test_invariant_up_to_permutation(name, seed):
    spec = SPECS[name]
    theta = weights(spec, 100 * seed)
    g = spaces.sample(jax.random.key(seed), spec, 1e4, jnp.float64)
    normal = canonical_form(spec, theta)
    moved = canonical_form(spec, act(spec, g, theta))
    assert_close(moved.theta, act(spec, permutation_part(g), normal.theta))
    assert_close(moved.log_norm, normal.log_norm)


@pytest.mark.parametrize("name", SPECS)
def test_control_weights_themselves_are_not_invariant(name):
    spec = SPECS[name]
    if not any(space.group != P for space in spec.spaces):
        pytest.skip("no scales or signs to fix in this spec")
    theta = weights(spec, 0)
    g = spaces.sample(jax.random.key(3), spec, 1e4, jnp.float64)
    moved = act(spec, g, theta)
    with pytest.raises(AssertionError):
        assert_close(moved, act(spec, permutation_part(g), theta))


@pytest.mark.parametrize("name", SPECS)
def test_idempotent(name):
    spec = SPECS[name]
    normal = canonical_form(spec, weights(spec, 7))
    again = canonical_form(spec, normal.theta)
    assert_close(again.theta, normal.theta, rtol=1e-12)
    for log_norm in again.log_norm.values():
        np.testing.assert_allclose(log_norm, 0, atol=1e-12)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.one_in(2)
def test_restore_is_the_element_acting(name):
    spec = SPECS[name]
    theta = weights(spec, 11)
    kappa = fast_jit(functools.partial(spaces.canonical_element, spec))(theta)
    spaces.check_elements(spec, kappa)
    restored = fast_jit(functools.partial(spaces.restore, spec))(
        canonical_form(spec, theta)
    )
    assert_close(restored, act(spec, kappa, theta))


@pytest.mark.parametrize("name", ["relu", "degrees", "residual_relu"])
def test_incoming_norms_are_one(name):
    spec = SPECS[name]
    theta = _trees.flatten(canonical_form(spec, weights(spec, 5)).theta)
    first = spec.leaves[0].path.rsplit("/", 1)[0]
    kernel = theta[f"{first}/kernel"].reshape(-1, theta[f"{first}/bias"].shape[0])
    norm = np.sum(np.square(kernel), 0) + np.square(theta[f"{first}/bias"])
    np.testing.assert_allclose(norm, 1, rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "tanh", "degrees"])
def test_dead_units_are_fixed_by_what_reads_them(name):
    spec = SPECS[name]
    theta = zero_unit(zero_unit(weights(spec, 3), "layer_00", 1), "layer_01", 4)
    g = spaces.sample(jax.random.key(4), spec, 1e4, jnp.float64)
    normal = canonical_form(spec, theta)
    moved = canonical_form(spec, act(spec, g, theta))
    assert_close(moved.theta, act(spec, permutation_part(g), normal.theta))
    assert bool(jnp.all(normal.theta["layer_00"]["kernel"][:, 1] == 0))


@pytest.mark.parametrize("name", ["residual_relu", "residual_tanh"])
def test_units_dead_in_the_stem_are_fixed_by_the_next_writer(name):
    spec = SPECS[name]
    theta = zero_unit(weights(spec, 3), "stem", 2)
    g = spaces.sample(jax.random.key(4), spec, 1e4, jnp.float64)
    normal = canonical_form(spec, theta)
    moved = canonical_form(spec, act(spec, g, theta))
    assert_close(moved.theta, act(spec, permutation_part(g), normal.theta))


def test_zero_network_is_left_alone():
    spec = SPECS["relu"]
    theta = jax.tree.map(jnp.zeros_like, weights(spec, 0))
    normal = canonical_form(spec, theta)
    assert_close(normal.theta, theta)
    assert float(normal.log_norm["layer_03/kernel"]) == 0


def test_nearly_dead_unit_under_a_live_bias_does_not_overflow():
    spec = SPECS["relu"]
    theta = weights(spec, 3, jnp.float32)
    kernel = theta["layer_00"]["kernel"].at[:, 1].set(1e-30)
    theta = {**theta, "layer_00": {**theta["layer_00"], "kernel": kernel}}
    normal = canonical_form(spec, theta)
    for path, leaf in _trees.flatten(normal).items():
        assert np.isfinite(leaf).all(), path
    np.testing.assert_allclose(
        jnp.abs(normal.theta["layer_00"]["bias"][1]), 1, rtol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_product_of_scales_out_of_range_is_carried_as_a_logarithm(scale):
    spec = SPECS["relu"]
    theta = weights(spec, 3, jnp.float32)
    scaled = jax.tree.map(lambda leaf: leaf * jnp.float32(scale), theta)
    # Exact reference: the same numbers in float64, where the product is in range.
    wide = canonical_form(spec, jax.tree.map(lambda x: x.astype(jnp.float64), scaled))
    normal = canonical_form(spec, scaled)
    assert_close(normal.theta, wide.theta, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(
        normal.log_norm["layer_03/kernel"],
        wide.log_norm["layer_03/kernel"],
        rtol=1e-5,
    )
    # float32 cannot hold the product of four such scales.
    assert abs(4 * np.log(scale)) > np.log(np.finfo(np.float32).max)


def test_float32_stays_float32():
    spec = SPECS["mixed"]
    normal = canonical_form(spec, weights(spec, 0, jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(normal)} == {np.dtype("float32")}


def test_antisymmetric_unit_is_decided_by_its_outgoing_weights():
    spec = mlp_spec((2, 2, 2, 1), (T, T))
    theta = weights(spec, 0)
    # Equal first-layer units, read with opposite weights: no odd statistic survives.
    kernel = jnp.tile(theta["layer_00"]["kernel"][:, :1], (1, 2))
    theta["layer_00"] = {"kernel": kernel, "bias": jnp.full(2, 0.3)}
    theta["layer_01"] = {
        "kernel": jnp.array([[1.0, 0.5], [-1.0, 0.7]]),
        "bias": jnp.array([0.0, 0.2]),
    }
    g = spaces.sample(jax.random.key(1), spec, 1.0, jnp.float64)
    flip = g["hidden_1"]._replace(scale=-g["hidden_1"].scale)
    for element in (g, {**g, "hidden_1": flip}):
        normal = canonical_form(spec, theta)
        moved = canonical_form(spec, act(spec, element, theta))
        expected = act(spec, permutation_part(element), normal.theta)
        assert_close(moved.theta, expected)


def test_batched_by_vmap_equals_a_loop():
    spec = SPECS["residual_relu"]
    thetas = [weights(spec, 10 * seed) for seed in range(3)]
    many = fast_jit(jax.vmap(functools.partial(spaces.canonical_form, spec)))
    batched = many(_trees.stack(thetas))
    looped = _trees.stack([canonical_form(spec, theta) for theta in thetas])
    assert_close(batched.theta, looped.theta, rtol=1e-14)
    assert_close(batched.log_norm, looped.log_norm, rtol=1e-14)


def readings(spec, seed):
    """A smooth function of everything in a normal form."""
    weight = weights(spec, seed)

    def total(theta):
        normal = spaces.canonical_form(spec, theta)
        pairs = zip(jax.tree.leaves(normal.theta), jax.tree.leaves(weight), strict=True)
        parts = [jnp.vdot(jnp.sin(x), w) for x, w in pairs]
        return sum(parts, sum(normal.log_norm.values(), jnp.zeros(())))

    return total


def at_zeros(spec):
    """Weights at which a norm, a bias or everything is zero."""
    theta = weights(spec, 3)
    first = spec.leaves[0].path.rsplit("/", 1)[0]
    return {
        "live": theta,
        "biases zero": {k: {**v, "bias": 0 * v["bias"]} for k, v in theta.items()},
        "a dead unit": zero_unit(theta, first, 1),
        "all zero": jax.tree.map(jnp.zeros_like, theta),
    }


@pytest.mark.parametrize("name", ["relu", "tanh", "mixed", "degrees"])
@pytest.mark.one_in(4)
def test_gradients_are_differences_and_finite_where_units_are_dead(name):
    spec = SPECS[name]
    both = fast_jit(jax.value_and_grad(readings(spec, 50)))
    for case, theta in at_zeros(spec).items():
        _, found = both(theta)
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found)), case
        if case == "all zero":
            continue
        # Away from zero, or at zero biases of live units: there it is smooth.
        step = jax.tree.map(
            lambda x, d, case=case: jnp.where(
                (x != 0) | (case == "biases zero"), 1e-6 * d, 0
            ),
            theta,
            weights(spec, 70),
        )
        ahead, behind = (
            both(jax.tree.map(lambda x, d, s=sign: x + s * d, theta, step))[0]
            for sign in (1, -1)
        )
        slope = sum(
            float(jnp.vdot(a, b))
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(step), strict=True)
        )
        np.testing.assert_allclose(2 * slope, ahead - behind, rtol=1e-6)


def test_gradients_at_a_zero_bias_are_those_of_any_scale():
    """The rule of `jnp.ldexp` would lose a power of two at a mantissa of zero."""
    spec = SPECS["relu"]
    theta = at_zeros(spec)["biases zero"]
    gradient = fast_jit(
        jax.grad(lambda t: spaces.canonical_form(spec, t).theta["layer_00"]["bias"][0])
    )
    found = gradient(
        {**theta, "layer_00": jax.tree.map(lambda x: 1e-3 * x, theta["layer_00"])}
    )
    norm = jnp.linalg.norm(1e-3 * theta["layer_00"]["kernel"][:, 0])
    np.testing.assert_allclose(found["layer_00"]["bias"][0] * norm, 1, rtol=RTOL)
