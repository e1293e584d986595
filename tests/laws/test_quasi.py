"""Quasi-equivariance: gauge maps move g, relative maps do not, and who can see them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import spaces
from qejax.layers import (
    CovariantStream,
    LearnedGauge,
    MonomialLinear,
    act_scales,
    elements,
    global_invariants,
    invariants,
)
from qejax.spaces import WeightSpec
from tests.layer_specs import (
    SPECS,
    compiled_act,
    fast_jit,
    random_features,
    random_module,
    relative_gap,
)
from tests.registry import LAYERS, MOVED_MLPS_AND_CNNS, QUASI, RTOL

C_IN, C_OUT = 2, 3
SCALED = [name for name in SPECS if "positive" in name or name in ("mixed",)]


def layer_of(spec: WeightSpec, kind: str) -> Any:
    build = LAYERS[kind].build
    return random_module(lambda: build(spec, C_IN, C_OUT, rngs=nnx.Rngs(0)))


def sampled(spec: WeightSpec, spread: float = 30.0) -> tuple[Any, Any]:
    feats = random_features(0, spec, C_IN)
    return feats, spaces.sample(jax.random.key(1), spec, spread, jnp.float64)


# Networks whose group has scales; the others have no gauge.
NETWORKS = {
    f"net: {name}": spaces.settled_spec(row.net.spec)
    for name, row in MOVED_MLPS_AND_CNNS.items()
    if any(space.group == "positive_scale" for space in row.net.spec.spaces)
}
FAST = {"net: residual cnn", "net: relu to the tenth", "net: mixed"}


@pytest.mark.parametrize("kind", QUASI)
@pytest.mark.parametrize(
    "name",
    [
        *SCALED,
        *(
            pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
            for name in NETWORKS
        ),
    ],
)
def test_gauge_law(name: str, kind: str) -> None:
    """`F(g U) = h F(U)` with `h = alpha(g U) g alpha(U)^-1`."""
    spec = (SPECS | NETWORKS)[name]
    layer, act = layer_of(spec, kind), compiled_act(spec)
    run = fast_jit(lambda feats: (layer(feats), elements(spec, layer.alpha(feats))))
    feats, g = sampled(spec)
    out, before = run(feats)
    got, after = run(act(g, feats))
    h = spaces.mul(spec, after, spaces.mul(spec, g, spaces.inv(spec, before)))
    assert relative_gap(got, act(h, out)) < RTOL
    # Else the map is constant, and the law the strict one.
    assert relative_gap(got, act(g, out)) > 1e-3


@pytest.mark.parametrize("name", ["mlp-permutation", "mlp-sign"])
def test_discrete_groups_have_no_gauge(name: str) -> None:
    spec = SPECS[name]
    feats, _ = sampled(spec)
    layer = layer_of(spec, "gauge")
    run = fast_jit(lambda feats: (layer(feats), layer.beta(feats)))
    assert relative_gap(*run(feats)) == 0


@pytest.mark.parametrize("name", SCALED)
def test_relative_law(name: str) -> None:
    """`alpha_c(g U) = g alpha_c(U) g^-1`, so `g' = g`; see test_strict for `sin`."""
    spec = SPECS[name]
    run, act = fast_jit(layer_of(spec, "relative_exp")), compiled_act(spec)
    feats, g = sampled(spec, 1e4)
    assert relative_gap(run(act(g, feats)), act(g, run(feats))) < RTOL


@pytest.mark.parametrize("kind", ["gauge", "relative", "relative_exp"])
def test_alpha_returns_elements_of_the_group(kind: str) -> None:
    spec = SPECS["mixed"]
    feats, _ = sampled(spec)
    scales = fast_jit(layer_of(spec, kind).alpha)(feats)
    channel = None if kind == "gauge" else 1
    spaces.check_elements(spec, elements(spec, scales, channel))
    assert list(scales) == ["relu"]


def test_act_scales_is_the_action() -> None:
    spec = SPECS["degree_two"]
    feats = random_features(2, spec, C_OUT)
    inputs, _ = sampled(spec)
    scales = fast_jit(layer_of(spec, "relative").alpha)(inputs)
    got = act_scales(spec, scales, feats)
    for channel in range(C_OUT):
        g = elements(spec, scales, channel)
        expected = compiled_act(spec)(g, feats)
        assert relative_gap(only(got, channel), only(expected, channel)) < RTOL


def only(feats: Any, channel: int) -> Any:
    return {path: np.asarray(x)[..., channel] for path, x in feats.items()}


def head(spec: WeightSpec, feats: Any) -> jax.Array:
    found = invariants(spec, feats)
    return global_invariants(spec, found)


def shift_of_invariants(kind: str) -> float:
    """Change of the invariants of a layer's output when alpha's parameters change."""
    spec = SPECS["mlp-positive_scale"]
    layer = layer_of(spec, kind)
    feats, _ = sampled(spec)
    run = fast_jit(lambda f: head(spec, layer(f)) - head(spec, layer.beta(f)))
    return float(jnp.max(jnp.abs(run(feats))))


def test_only_a_relative_alpha_moves_the_invariants() -> None:
    assert shift_of_invariants("gauge") < 1e-12
    assert shift_of_invariants("relative") > 1e-2


@pytest.mark.parametrize(("kind", "visible"), [("gauge", 0), ("relative", 1)])
def test_gradient_of_alpha_under_an_invariant_head(kind: str, visible: int) -> None:
    """What the gauge part of a map does, no invariant head can see."""
    spec = SPECS["mlp-positive_scale"]
    first = layer_of(spec, kind)
    second = random_module(
        lambda: CovariantStream(spec, C_OUT, C_OUT, rngs=nnx.Rngs(0)), 1
    )
    feats, _ = sampled(spec)
    graph, params = nnx.split(first)

    def loss(params: Any) -> jax.Array:
        hidden = nnx.merge(graph, params)(feats)
        return jnp.sum(jnp.sin(head(spec, second(hidden))))

    grads = fast_jit(jax.grad(loss))(nnx.to_pure_dict(params))
    norms = {
        part: max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(grads[part]))
        for part in ("alpha", "beta")
    }
    assert norms["beta"] > 1e-2
    if visible:
        assert norms["alpha"] > 1e-2 * norms["beta"]
    else:
        assert norms["alpha"] < 1e-12 * norms["beta"]


@pytest.mark.parametrize("name", ["mlp-positive_scale", "mixed"])
def test_learned_gauge_stays_on_the_orbit_and_is_seen(name: str) -> None:
    spec = SPECS[name]
    free = spec.permutations_only()
    layer = random_module(lambda: LearnedGauge(spec, C_IN, rngs=nnx.Rngs(0)))
    reader = random_module(lambda: MonomialLinear(free, C_IN, C_OUT, rngs=nnx.Rngs(0)))
    run, read = fast_jit(lambda f: (layer(f), layer.alpha(f))), fast_jit(reader)
    act, permute = compiled_act(spec), compiled_act(free)
    feats, g = sampled(spec)
    out, scales = run(feats)
    alpha = elements(spec, scales)
    spaces.check_elements(spec, alpha)
    assert relative_gap(out, act(alpha, feats)) < RTOL
    assert relative_gap(out, feats) > 1e-3
    assert relative_gap(run(permute(g, feats))[0], permute(g, out)) < RTOL
    assert relative_gap(read(out), read(feats)) > 1e-3


def test_raw_statistics_per_channel_break_the_law() -> None:
    """Control: the shortcut to a visible map, channels apart from raw statistics."""
    spec = SPECS["mlp-positive_scale"]
    layer = layer_of(spec, "gauge")
    feats, g = sampled(spec)

    def broken(feats: Any) -> Any:
        shared = layer.alpha(feats)
        steps = jnp.arange(1.0, C_OUT + 1)[None]
        apart = {name: s[:, None] ** steps for name, s in shared.items()}
        return act_scales(spec, apart, layer.beta(feats))

    run = fast_jit(lambda feats: head(spec, broken(feats)))
    moved = run(compiled_act(spec)(g, feats))
    assert float(jnp.max(jnp.abs(moved - run(feats)))) > 1e-2
