"""Strict layers commute with the whole group; broken ones are caught."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import spaces
from qejax.layers import invariants
from qejax.spaces import WeightSpec
from tests.layer_specs import (
    SPECS,
    compiled_act,
    fast_jit,
    random_features,
    random_module,
    relative_gap,
)
from tests.registry import LAYERS, MOVED_MLPS_AND_CNNS, RTOL, STRICT

C_IN, C_OUT = 2, 3
WHERE = SPECS | {
    f"net: {name}": spaces.settled_spec(row.net.spec)
    for name, row in MOVED_MLPS_AND_CNNS.items()
}


# The bounded layer is the same code on another spec.
# What differs between rows: the others repeat the code of these.
SKIPPED = {"conv-permutation", "width_one-permutation", "width_one-sign"}
SCALED = {name for name in SPECS if "positive" in name} | {"mixed", "degree_two"}
PAIRS = [
    *((name, "monomial_linear") for name in SPECS),
    *((name, "covariant_stream") for name in SPECS if name not in SKIPPED),
    *((name, "relative") for name in SPECS if name in SCALED or name == "mlp-sign"),
    *((name, "bounded") for name in ("conv-positive_scale", "mlp-sign")),
]


@functools.cache
def compiled(name: str, kind: str) -> Any:
    """A layer with random parameters, compiled once for all tests."""
    spec = WHERE[name]
    build = LAYERS[kind].build
    return fast_jit(random_module(lambda: build(spec, C_IN, C_OUT, rngs=nnx.Rngs(0))))


def equivariance_gap(
    run: Any, spec: WeightSpec, uncoupled: bool = False, seeds: int = 3
) -> float:
    """Worst gap over elements with scales up to 1e4 (float64)."""
    act, worst = compiled_act(spec), 0.0
    for seed in range(seeds):
        feats = random_features(seed, spec, C_IN)
        g = spaces.sample(jax.random.key(10 + seed), spec, 1e4, jnp.float64)
        h = spaces.sample(jax.random.key(20 + seed), spec, 1e4, jnp.float64)
        expected = act(h if uncoupled else g, run(feats))
        worst = max(worst, relative_gap(run(act(g, feats)), expected))
    return worst


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@pytest.mark.one_in(2)
def test_commutes_with_the_group(name: str, kind: str) -> None:
    assert equivariance_gap(compiled(name, kind), SPECS[name]) < RTOL


# Every network once, every layer twice at least; all pairs are slow.
CYCLE = {(name, STRICT[i % len(STRICT)]) for i, name in enumerate(MOVED_MLPS_AND_CNNS)}
NETWORKS = [
    pytest.param(name, kind, marks=[] if (name, kind) in CYCLE else [pytest.mark.slow])
    for name in MOVED_MLPS_AND_CNNS
    for kind in STRICT
]


@pytest.mark.parametrize(("name", "kind"), NETWORKS)
@pytest.mark.one_in(2)
def test_commutes_with_the_group_of_every_network(name: str, kind: str) -> None:
    name = f"net: {name}"
    assert equivariance_gap(compiled(name, kind), WHERE[name], seeds=1) < RTOL


@pytest.mark.parametrize("kind", STRICT)
def test_uncoupled_elements_break_the_law(kind: str) -> None:
    """Not a law: a layer that returns zeros would pass the law, and this."""
    run = compiled("mlp-sign", kind)
    assert equivariance_gap(run, SPECS["mlp-sign"], uncoupled=True) > 1e-2


@pytest.mark.parametrize("kind", STRICT)
def test_every_leaf_depends_on_the_features(kind: str) -> None:
    spec = SPECS["mlp-sign"]
    run = compiled("mlp-sign", kind)
    one, two = (run(random_features(seed, spec, C_IN)) for seed in (0, 1))
    for path in one:
        assert relative_gap(one[path], two[path]) > 1e-3, path


def test_elementwise_nonlinearity_is_caught() -> None:
    spec = SPECS["mlp-sign"]
    linear = compiled("mlp-sign", "monomial_linear")

    def broken(feats: Any) -> Any:
        return jax.tree.map(jax.nn.relu, linear(feats))

    assert equivariance_gap(broken, spec) > 1e-2


def test_layer_of_another_group_is_caught() -> None:
    """Permutation layers do not commute with scales."""
    spec = SPECS["mlp-positive_scale"]
    layer = compiled("mlp-permutation", "monomial_linear")
    assert equivariance_gap(layer, spec) > 1e-2


@pytest.mark.parametrize("name", SPECS)
def test_invariants_are_moved_by_permutations_only(name: str) -> None:
    spec = SPECS[name]
    run = fast_jit(functools.partial(invariants, spec))
    act, permute = compiled_act(spec), compiled_act(spec.permutations_only())
    for seed in range(3):
        feats = random_features(seed, spec, C_IN)
        g = spaces.sample(jax.random.key(10 + seed), spec, 1e4, jnp.float64)
        got, found = run(act(g, feats)), run(feats)
        assert relative_gap(got.entries, permute(g, found.entries)) < RTOL
        np.testing.assert_allclose(got.log_size, found.log_size, rtol=RTOL, atol=RTOL)
        other = run(random_features(99, spec, C_IN))
        assert relative_gap(other.entries, found.entries) > 1e-2


@pytest.mark.parametrize("kind", ["covariant_stream", "relative"])
def test_dead_units_stay_exact(kind: str) -> None:
    """A unit that nothing writes has no size, and its outgoing scale no meaning."""
    spec = SPECS["mlp-positive_scale"]
    feats = random_features(0, spec, C_IN)
    for path in ("layer_00/kernel", "layer_00/bias"):
        feats[path] = feats[path].at[..., 1, :].set(0)
    g = spaces.sample(jax.random.key(1), spec, 1e4, jnp.float64)
    run, act = compiled("mlp-positive_scale", kind), compiled_act(spec)
    assert relative_gap(run(act(g, feats)), act(g, run(feats))) < RTOL
