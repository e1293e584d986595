"""Message passing with signs: equivariant, continuous, and not blind."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, nets, spaces
from qejax.groups import Monomial
from tests.layer_specs import SPECS, compiled_act, fast_jit, random_module
from tests.registry import NETS, RTOL, compiled, element_of, theta_of

HEADS = (0, 2)
"""Plain sums, and attention over units."""

NAMES = ("sine", "tanh", "gaussian", "mixed", "cnn, sine, flatten")


def module_of(spec: spaces.WeightSpec, **options: Any) -> layers.SignedTransport:
    fields: Any = {"hidden": 5, "param_dtype": jnp.float64, **options}
    return random_module(
        lambda: layers.SignedTransport(spec, 4, rngs=nnx.Rngs(0), **fields)
    )


def pair_of(spec: spaces.WeightSpec) -> tuple[Any, Any, Any]:
    """Random leaves, the same moved, and the element that moves them."""
    rng = np.random.default_rng(0)
    feats = {leaf.path: jnp.asarray(rng.normal(size=leaf.view)) for leaf in spec.leaves}
    g = spaces.sample(jax.random.key(0), spec, dtype=jnp.float64)
    return feats, compiled_act(spec)(g, feats), g


def read(name: str, **options: Any) -> tuple[Any, spaces.WeightSpec]:
    """From weights to features of units, for weights in any scale."""
    spec = NETS[name].net.spec
    free = spaces.settled_spec(spec)
    module = module_of(free, **options)

    def run(theta: Any) -> Any:
        normal = spaces.canonical_form(spec, theta).theta
        return module(spaces.views(free, spaces.reduced(spec, normal)))

    return run, spec


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.one_in(3)
def test_pooled_features_do_not_see_the_group(name: str, heads: int) -> None:
    run, spec = read(name, heads=heads)
    run = fast_jit(run)
    theta = theta_of(spec, 0)
    moved = compiled(name).act(element_of(spec, 0), theta)
    here, there, other = (
        np.asarray(layers.pool_signed(run(one)))
        for one in (theta, moved, theta_of(spec, 1))
    )
    spread = np.abs(other - here).max()
    assert spread > 1e-3
    assert np.abs(there - here).max() < RTOL * spread


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("name", ["mlp-sign", "residual-sign", "conv-sign"])
def test_features_move_with_their_units(name: str, heads: int) -> None:
    """No normal form: signs are whatever they are."""
    spec = SPECS[name]
    run = fast_jit(module_of(spec, heads=heads).__call__)
    feats, moved, g = pair_of(spec)
    before, after = run(feats), run(moved)
    for space, both in before.items():
        one: Monomial = g[space]
        sign = one.scale[:, None]
        np.testing.assert_allclose(after[space].odd, sign * both.odd[one.perm], RTOL)
        np.testing.assert_allclose(after[space].even, both.even[one.perm], RTOL)
        assert float(jnp.abs(both.odd).min()) > 0


def test_an_even_reader_of_raw_signs_is_caught() -> None:
    """The control: odd leaves taken for even ones."""
    run = fast_jit(module_of(SPECS["mlp-permutation"]).__call__)
    feats, moved, _ = pair_of(SPECS["mlp-sign"])
    gap = layers.pool_signed(run(moved)) - layers.pool_signed(run(feats))
    assert float(jnp.abs(gap).max()) > 1e-2


def test_it_is_continuous_where_normal_forms_jump() -> None:
    """Where a phase reaches the end of its half period."""
    net = nets.coordinate((2, 3, 3, 1), "sine(4)")
    free = spaces.settled_spec(net.spec)
    module = module_of(free)
    theta = theta_of(net.spec, 0)

    @fast_jit
    def run(theta: Any) -> Any:
        leaves = spaces.views(free, spaces.settled(net.spec, theta))
        return layers.pool_signed(module(leaves))

    form = functools.partial(spaces.canonical_form, net.spec)
    sides = []
    for side in (-1e-9, 1e-9):
        first = theta["layer_00"]
        bias = first["bias"].at[1].set(np.pi / 8 + side)
        sides.append({**theta, "layer_00": {**first, "bias": bias}})
    one, other = (run(theta) for theta in sides)
    assert float(jnp.abs(one - other).max()) < 1e-6
    jump = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), form(sides[0]), form(sides[1])
    )
    assert max(jax.tree.leaves(jump.theta)) > 0.1


@pytest.mark.parametrize("options", [{"depth": 1}, {"depth": 3}, {"heads": 4}])
@pytest.mark.one_in(3)
def test_every_leaf_is_read(options: Any) -> None:
    run, spec = read("sine", **options)
    theta = theta_of(spec, 0)
    loss = fast_jit(jax.grad(lambda t: jnp.sum(layers.pool_signed(run(t)) ** 2)))
    grads = loss(theta)
    silent = {"layer_02/bias"}  # Of no unit: the head reads it.
    for path, grad in spaces.views(spec, grads).items():
        assert (float(jnp.abs(grad).max()) > 0) == (path not in silent), path
