"""Sine units: normal forms, features without half periods, and their changes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from qejax import layers, nets, spaces
from qejax.groups import Dihedral, Monomial
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec
from tests.layer_specs import fast_jit, relative_gap
from tests.registry import NETS, RTOL, compiled, element_of, gap, inputs_of, theta_of

SINES = [
    name
    for name, row in NETS.items()
    if any(space.group == "dihedral" for space in row.net.spec.spaces)
]


def signs_of(g: Any) -> Any:
    return {name: Monomial(one.perm, one.scale) for name, one in g.items()}


@functools.cache
def program(name: str) -> Any:
    return fast_jit(functools.partial(spaces.settled, NETS[name].net.spec))


@pytest.mark.parametrize("name", SINES)
def test_features_move_by_signs_alone(name: str) -> None:
    spec, run = NETS[name].net.spec, program(name)
    free = spaces.settled_spec(spec)
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    found = run(compiled(name).act(g, theta))
    expected = spaces.act(free, signs_of(g), run(theta))
    assert relative_gap(found, expected) < RTOL
    assert relative_gap(found, run(theta)) > 1e-2


@pytest.mark.parametrize("name", SINES)
@pytest.mark.one_in(3)
def test_phases_of_a_normal_form_lie_in_half_a_period(name: str) -> None:
    spec = NETS[name].net.spec
    theta = theta_of(spec, 1)
    moved = compiled(name).act(element_of(spec, 1), theta)
    form = spaces.restore(spec, spaces.canonical_form(spec, moved))
    leaves = spaces.views(spec, form)
    for leaf in spec.leaves:
        for axis in leaf.axes:
            if axis.turn:
                bias = np.asarray(leaves[leaf.path])
                assert np.max(np.abs(bias)) <= axis.turn / 2 * (1 + 1e-12)
                raw = np.asarray(spaces.views(spec, moved)[leaf.path])
                assert np.max(np.abs(raw)) > axis.turn / 2


@pytest.mark.parametrize("name", SINES)
@pytest.mark.one_in(2)
def test_the_element_of_a_normal_form(name: str) -> None:
    spec, run = NETS[name].net.spec, compiled(name)
    theta = run.act(element_of(spec, 2), theta_of(spec, 2))
    kappa = spaces.canonical_element(spec, theta)
    spaces.check_elements(spec, kappa)
    turned = [one.turns for one in kappa.values() if isinstance(one, Dihedral)]
    assert any(np.any(np.asarray(turns)) for turns in turned)
    form = spaces.restore(spec, spaces.canonical_form(spec, theta))
    assert relative_gap(run.act(kappa, theta), form) < RTOL
    x = inputs_of(NETS[name])
    assert gap(run.apply(form, x), run.apply(theta, x)) < RTOL


def test_features_do_not_jump_where_a_normal_form_does() -> None:
    """A bias on either side of a quarter period."""
    net = nets.mlp((2, 3, 1), "sine(4)")
    theta = theta_of(net.spec, 0)
    edge = np.pi / 8
    sides = []
    for side in (edge - 1e-9, edge + 1e-9):
        bias = theta["layer_00"]["bias"].at[1].set(side)
        sides.append({**theta, "layer_00": {**theta["layer_00"], "bias": bias}})
    one, other = (spaces.settled(net.spec, theta) for theta in sides)
    assert relative_gap(one, other) < 1e-7
    forms = [spaces.canonical_form(net.spec, theta).theta for theta in sides]
    assert relative_gap(*forms) > 0.1


def test_features_tell_a_network_from_another() -> None:
    """Up to its symmetries a network is what its features are: nothing is lost."""
    net = nets.mlp((1, 2, 1), "sine(2)")
    features = functools.partial(spaces.settled, net.spec)
    theta = theta_of(net.spec, 0)
    flat, back = ravel_pytree(theta)
    jacobian = jax.jacobian(lambda x: ravel_pytree(features(back(x)))[0])(flat)
    assert np.linalg.matrix_rank(np.asarray(jacobian)) == flat.shape[0]


@pytest.mark.parametrize("name", SINES)
def test_changes_move_as_the_weights_do(name: str) -> None:
    """A step along features is a step of the network, from any point of the orbit."""
    spec, run = NETS[name].net.spec, compiled(name)
    free = spaces.phase_free_spec(spec)
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    change = spaces.views(free, theta_of(free, 5))
    moved_change = spaces.act_features(free, signs_of(g), change)

    def edited(theta: Any, change: Any) -> Any:
        leaves = spaces.views(spec, theta)
        step = spaces.with_phases(spec, leaves, change)
        return spaces.from_views(
            spec, {path: x + 0.1 * step[path] for path, x in leaves.items()}, theta
        )

    here, there = edited(theta, change), edited(run.act(g, theta), moved_change)
    assert relative_gap(there, run.act(g, here)) < RTOL
    assert relative_gap(edited(run.act(g, theta), change), run.act(g, here)) > 1e-3


def dihedral_spec(*leaves: Leaf) -> WeightSpec:
    return WeightSpec((UnitSpace("units", 3, "dihedral"),), leaves)


KERNEL = Leaf("kernel", (Axis(2), Axis(3, "units", 1)))
BIAS = Leaf("bias", (Axis(3, "units", 1, 0.5),))


@pytest.mark.parametrize(
    "leaves",
    [(KERNEL,), (KERNEL, BIAS, Leaf("again", BIAS.axes))],
    ids=["no bias", "two biases"],
)
def test_units_that_turn_have_one_bias(leaves: tuple[Leaf, ...]) -> None:
    with pytest.raises(ValueError, match="units that turn have one bias"):
        dihedral_spec(*leaves)


def test_a_turn_needs_a_group_that_has_them() -> None:
    with pytest.raises(ValueError, match="of group 'permutation': units that turn"):
        WeightSpec((UnitSpace("units", 3),), (KERNEL, BIAS))


def test_layers_refuse_raw_phases() -> None:
    spec = dihedral_spec(KERNEL, BIAS)
    theta = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    with pytest.raises(ValueError, match="features: expected units without phases"):
        layers.features(spec, theta)
    raw = {path: leaf[..., None] for path, leaf in theta.items()}
    with pytest.raises(ValueError, match="invariants: expected units without phases"):
        layers.invariants(spec, raw)


def test_an_element_of_another_kind_is_refused() -> None:
    spec = dihedral_spec(KERNEL, BIAS)
    g = {"units": Monomial(jnp.arange(3), jnp.ones(3))}
    with pytest.raises(ValueError, match=r"expected a Dihedral\(perm, scale, turns\)"):
        spaces.check_spaces(spec, g)
