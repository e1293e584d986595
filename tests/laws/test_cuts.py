"""Leaves that are parts of arrays obey the laws of leaves that are arrays."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from qejax import layers, spaces, testing
from tests.cut_networks import CUT, cut_inputs, cut_theta
from tests.layer_specs import fast_jit
from tests.registry import RTOL, element_of, gap


@functools.cache
def _act(name):
    return fast_jit(functools.partial(spaces.act, CUT[name].spec))


@pytest.mark.parametrize("name", CUT)
@pytest.mark.one_in(2)
def test_function_kept(name):
    """Space by space and shift by shift; the controls see every one of them."""
    row = CUT[name]
    theta, x = cut_theta(row.spec, 0), cut_inputs(row)
    report = testing.function_kept(
        fast_jit(row.apply), row.spec, theta, x, jax.random.key(0)
    )
    report.check()
    assert set(report.parts) == {s.name for s in (*row.spec.spaces, *row.spec.shifts)}
    silent = {shift.name for shift in row.spec.shifts if not shift.routes}
    assert len(report.controls) == 2 + len(report.parts) - len(silent)
    assert min(control.value for control in report.controls) > 1e-4


def test_parts_in_another_order_are_another_network():
    """A control: values where the queries are."""
    row = CUT["fused attention"]
    where = {"query": 0, "value": 2}
    kernels = [leaf for leaf in row.spec.leaves if leaf.array == "qkv/kernel"]
    first, last = (kernels[n].cut for n in where.values())
    swapped = {kernels[0].path: last, kernels[2].path: first}
    spec = replace(
        row.spec,
        leaves=tuple(
            replace(leaf, cut=swapped.get(leaf.path, leaf.cut))
            for leaf in row.spec.leaves
        ),
    )
    report = testing.function_kept(
        row.apply, spec, cut_theta(spec, 0), cut_inputs(row), jax.random.key(0)
    )
    with pytest.raises(AssertionError, match="function_kept"):
        report.check()


@pytest.mark.parametrize("name", CUT)
def test_a_left_action_with_inverses(name):
    spec, act = CUT[name].spec, _act(name)
    theta = cut_theta(spec, 0)
    g, h = (element_of(spec, seed, 10.0) for seed in (0, 1))
    both = act(spaces.mul(spec, h, g), theta)
    assert gap(both, act(h, act(g, theta))) <= RTOL
    assert gap(act(spaces.inv(spec, g), act(g, theta)), theta) <= RTOL
    assert gap(act(g, theta), theta) > 1e-2
    assert gap(both, act(g, act(h, theta))) > 1e-2
    still = act(spaces.identity(spec, theta["out"]["kernel"].dtype), theta)
    assert gap(still, theta) == 0


@pytest.mark.parametrize("name", CUT)
@pytest.mark.one_in(2)
def test_the_dense_matrix_is_the_action(name):
    spec = CUT[name].spec
    theta, g = cut_theta(spec, 0), element_of(spec, 0, 10.0)
    flat = spaces.ravel(spec, theta)
    expected = spaces.dense_matrix(spec, g) @ flat + spaces.offset(spec, g)
    assert gap(spaces.ravel(spec, _act(name)(g, theta)), expected) <= RTOL


@pytest.mark.parametrize("name", CUT)
def test_an_array_moves_as_its_parts_would_on_their_own(name):
    """The oracle: the same leaves, each an array."""
    spec = CUT[name].spec
    apart = spec.uncut()
    theta, g = cut_theta(spec, 0), element_of(spec, 0)
    parts = spaces.views(spec, theta)
    alone = {leaf.path: parts[leaf.path].reshape(leaf.stored) for leaf in spec.leaves}
    moved = spaces.act(apart, g, alone)
    for path, x in spaces.views(spec, _act(name)(g, theta)).items():
        np.testing.assert_array_equal(x.reshape(-1), moved[path].reshape(-1))


@pytest.mark.parametrize("name", CUT)
def test_many_networks_are_moved_as_one_is(name):
    spec = CUT[name].spec
    thetas = [cut_theta(spec, seed) for seed in range(3)]
    elements = [element_of(spec, seed) for seed in range(3)]
    many = fast_jit(jax.vmap(functools.partial(spaces.act, spec)))
    stacked = many(_stack(elements), _stack(thetas))
    for number, (g, theta) in enumerate(zip(elements, thetas, strict=True)):
        one = jax.tree.map(lambda x, number=number: x[number], stacked)
        assert gap(one, _act(name)(g, theta)) <= RTOL


def _stack(trees):
    return jax.tree.map(lambda *x: np.stack(x), *trees)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.one_in(2)
def test_gradients_pass_through(name):
    """The action is affine: its derivative is that of the dense matrix."""
    spec = CUT[name].spec
    theta, g = cut_theta(spec, 0), element_of(spec, 0, 10.0)
    weight = np.random.default_rng(0).normal(size=spec.num_parameters)
    back = jax.grad(lambda t: weight @ spaces.ravel(spec, spaces.act(spec, g, t)))
    expected = weight @ spaces.dense_matrix(spec, g)
    assert gap(spaces.ravel(spec, back(theta)), expected) <= RTOL


def test_weights_and_features_are_told_apart():
    """Weights have the shapes of arrays, features those of views, under other paths."""
    spec, key = CUT["stacked layers"].spec, jax.random.key(0)
    theta = cut_theta(spec, 0)
    feats = layers.features(spec, theta)
    for tree in (theta, feats):
        testing.assert_equivariant(
            lambda t: jax.tree.map(lambda x: 2 * x, t), spec, tree, key
        )
        with pytest.raises(AssertionError, match="equivariant failed"):
            testing.assert_equivariant(
                lambda t: jax.tree.map(lambda x: x + 1, t), spec, tree, key
            )
    with pytest.raises(ValueError, match="should be weights or features of the spec"):
        testing.assert_equivariant(lambda t: t, spec, {**feats, "up": theta["up"]}, key)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.one_in(2)
def test_canonical_form_is_that_of_the_orbit(name):
    row = CUT[name]
    theta, g = cut_theta(row.spec, 0), element_of(row.spec, 0, 10.0)
    told = fast_jit(functools.partial(spaces.canonical_statistics, row.spec))
    assert gap(told(_act(name)(g, theta)), told(theta)) <= RTOL
    assert gap(told(cut_theta(row.spec, 1)), told(theta)) > 1e-3
    assert told(theta).shape == (len(spaces.statistic_names(row.spec)),)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.one_in(2)
def test_a_canonical_form_is_the_network(name):
    row, theta = CUT[name], cut_theta(CUT[name].spec, 0)
    form = fast_jit(functools.partial(spaces.canonical_form, row.spec))
    back = fast_jit(functools.partial(spaces.restore, row.spec))(form(theta))
    x = cut_inputs(row)
    assert gap(row.apply(back, x), row.apply(theta, x)) <= RTOL
    again = form(back)
    assert gap(again.theta, form(theta).theta) <= RTOL


@pytest.mark.parametrize("name", CUT)
@pytest.mark.one_in(2)
def test_settled_weights_are_of_the_settled_spec(name):
    """Leaf by leaf: what settling leaves of an array need not fill it."""
    spec = CUT[name].spec
    free = spaces.settled_spec(spec)
    theta, g = cut_theta(spec, 0), element_of(spec, 0, 10.0)
    settled = fast_jit(functools.partial(spaces.settled, spec))
    told = fast_jit(_told(name, free))
    first, second = settled(theta), settled(_act(name)(g, theta))
    spaces.check_theta(free, first)
    assert gap(told(second), told(first)) <= RTOL
    assert free == spec or not any(leaf.cut for leaf in free.leaves)


def _told(name, free):
    """Numbers that what is left of the group does not change."""
    if name == "stacked sines":  # Only the signs are left.
        return lambda theta: spaces.raw_statistics(free, jax.tree.map(abs, theta))
    return functools.partial(spaces.canonical_statistics, free)
