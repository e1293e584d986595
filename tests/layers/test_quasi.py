"""Covariant and group-valued layers: numbers at degenerate weights, and errors."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from qejax.layers import (
    CovariantStream,
    GaugeAlpha,
    LearnedGauge,
    MonomialLinear,
    QuasiEquivariant,
    RelativeAlpha,
    global_invariants,
    invariants,
    unit_sizes,
)
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, act_units, sample
from tests.layer_specs import (
    SPECS,
    compiled_act,
    fast_jit,
    random_features,
    random_module,
    relative_gap,
)
from tests.registry import LAYERS

SPEC = SPECS["mlp-positive_scale"]
RNGS = nnx.Rngs(0)


KINDS = ("covariant_stream", "gauge", "relative", "learned_gauge")


def build(kind: str, spec: WeightSpec) -> nnx.Module:
    if kind == "learned_gauge":
        return LearnedGauge(spec, 2, rngs=nnx.Rngs(0))
    return LAYERS[kind].build(spec, 2, 3, rngs=nnx.Rngs(0))


def degenerate(spec: WeightSpec) -> dict[str, dict[str, jax.Array]]:
    feats = random_features(0, spec, 2)
    return {
        "zero": {path: jnp.zeros_like(x) for path, x in feats.items()},
        "equal units": {path: jnp.ones_like(x) for path, x in feats.items()},
        "random": feats,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mixed", "width_one-positive_scale"])
@pytest.mark.one_in(3)
def test_float32_stays_and_gradients_are_finite(name: str, kind: str) -> None:
    spec = SPECS[name]
    layer = random_module(lambda: build(kind, spec))
    graph, params = nnx.split(layer)

    def loss(params: Any, feats: Any) -> tuple[jax.Array, Any]:
        out = nnx.merge(graph, params)(feats)
        total = global_invariants(spec, invariants(spec, out))
        return jnp.sum(total) + sum(jnp.sum(x) for x in out.values()), out

    run = fast_jit(jax.grad(loss, (0, 1), has_aux=True))
    for case, feats in degenerate(spec).items():
        feats = {path: x.astype(jnp.float32) for path, x in feats.items()}
        grads, out = run(nnx.to_pure_dict(params), feats)
        for leaf in jax.tree.leaves((grads, out)):
            assert leaf.dtype == jnp.float32
            assert bool(jnp.all(jnp.isfinite(leaf))), case


def test_vmap_is_the_loop() -> None:
    layer = random_module(lambda: build("relative", SPEC))
    batch = [random_features(seed, SPEC, 2) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batch)
    out = fast_jit(jax.vmap(layer))(stacked)
    run = fast_jit(layer)
    for index, feats in enumerate(batch):
        assert relative_gap({k: x[index] for k, x in out.items()}, run(feats)) < 1e-12


def test_extreme_sizes_do_not_overflow() -> None:
    """Squares of 1e30 leave float32; the sizes of units must not."""
    feats = {
        path: (1e30 * x).astype(jnp.float32) if path.startswith("layer_00") else x
        for path, x in random_features(0, SPEC, 2).items()
    }
    size = unit_sizes(SPEC, feats)["hidden_0"]
    assert bool(jnp.all(jnp.isfinite(size)))
    assert float(jnp.min(size)) > 1e29


def test_unit_sizes_scale_as_units() -> None:
    feats = random_features(0, SPEC, 2)
    g = sample(jax.random.key(0), SPEC, 1e4, jnp.float64)
    got = unit_sizes(SPEC, compiled_act(SPEC)(g, feats))
    expected = act_units(SPEC, g, unit_sizes(SPEC, feats), power=1)
    assert relative_gap(got, expected) < 1e-10


def test_gates_of_a_new_layer_are_one_at_zero_invariants() -> None:
    """Biases are zero: a new layer starts as its linear part."""
    make = jax.jit(
        lambda: nnx.to_pure_dict(
            nnx.state(CovariantStream(SPEC, 2, 3, rngs=nnx.Rngs(0)))
        )
    )
    made = make()
    for parameters in (*made["entry"].values(), *made["units"].values(), made["globe"]):
        assert float(jnp.max(jnp.abs(parameters["bias"]))) == 0
        assert float(jnp.max(jnp.abs(parameters["kernel"]))) > 0


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1])
def test_eps_outside_the_unit_interval_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=r"GaugeAlpha\(eps=.*\(0, 1\), got"):
        GaugeAlpha(SPEC, 2, eps=eps, rngs=RNGS)
    with pytest.raises(ValueError, match=r"RelativeAlpha\(eps=.*\(0, 1\), got"):
        RelativeAlpha(SPEC, 2, 3, eps=eps, rngs=RNGS)


def test_unknown_bound_is_refused() -> None:
    unknown: Any = "tanh"
    with pytest.raises(ValueError, match=r"bound=.*'sin' or 'exp', got 'tanh'"):
        LearnedGauge(SPEC, 2, bound=unknown, rngs=RNGS)


class Constant:
    """An alpha that returns what it was given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, feats: Any) -> Any:
        return self.value


def test_alpha_outside_the_group_of_beta_is_refused() -> None:
    beta = MonomialLinear(SPEC, 2, 3, rngs=RNGS)
    one = {"hidden_0": jnp.ones(3)}
    with pytest.raises(
        ValueError,
        match=r"positive_scale\(3\).*expected one entry for each of .*'hidden_1'\]",
    ):
        QuasiEquivariant(Constant(one), beta)
    with pytest.raises(ValueError, match=r"with \['outputs'\]"):
        QuasiEquivariant(
            Constant({**one, "hidden_1": jnp.ones(2), "outputs": jnp.ones(2)}), beta
        )
    with pytest.raises(ValueError, match=r"'hidden_1' should have shape \(2,\) or"):
        QuasiEquivariant(Constant({**one, "hidden_1": jnp.ones((2, 2))}), beta)
    with pytest.raises(ValueError, match=r"the product of .*; got a ShapeDtypeStruct"):
        QuasiEquivariant(Constant(jnp.ones(3)), beta)
    other = RelativeAlpha(SPECS["width_one-positive_scale"], 2, 3, rngs=RNGS)
    with pytest.raises(ValueError, match=r"features of leaf 'layer_00/kernel'"):
        QuasiEquivariant(other, beta)


def test_a_factory_needs_rngs() -> None:
    alpha = functools.partial(GaugeAlpha, SPEC, 2)
    with pytest.raises(ValueError, match=r"alpha=.*got a factory and no rngs"):
        QuasiEquivariant(alpha, MonomialLinear(SPEC, 2, 3, rngs=RNGS))
    with pytest.raises(ValueError, match=r"beta=.*got a factory and no rngs"):
        QuasiEquivariant(alpha(rngs=RNGS), MonomialLinear)


def test_a_scaled_space_that_nothing_writes_is_refused() -> None:
    spec = WeightSpec(
        (UnitSpace("h", 2, "positive_scale"),), (Leaf("k", (Axis(2, "h", -1),)),)
    )
    with pytest.raises(
        ValueError, match=r"'h' has positive scales, but no leaf writes"
    ):
        unit_sizes(spec, random_features(0, spec, 1))
