"""Layers where general linear maps act: settled transformers, heads, adapters.

Elements have matrices of condition number 100 and scales up to 1e4. Every law has a
layer that breaks it, and a constant one that the controls see.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import spaces
from qejax.layers import (
    InvariantPool,
    act_scales,
    elements,
    linear_spaces,
)
from qejax.spaces import WeightSpec, settled_spec
from tests.layer_specs import (
    HEADS,
    compiled_act,
    fast_jit,
    random_features,
    random_module,
    relative_gap,
)
from tests.registry import LAYERS, RTOL, TRANSFORMERS, element_of

C_IN, C_OUT = 2, 3
NETWORKS = (
    "vit, class token",
    "post-norm, no residual, gated",
    "rms without scale, rotary, grouped",
    "small transformer zoo",
)
WHERE = HEADS | {name: settled_spec(TRANSFORMERS[name].net.spec) for name in NETWORKS}
STRICT = [
    *((name, "monomial_linear") for name in HEADS),
    ("heads on a stream", "covariant_stream"),
    ("adapter", "covariant_stream"),
    ("heads", "relative"),
    ("grouped", "relative"),
    ("adapter", "relative"),
    ("vit, class token", "covariant_stream"),
    ("post-norm, no residual, gated", "monomial_linear"),
    ("rms without scale, rotary, grouped", "monomial_linear"),
    ("small transformer zoo", "monomial_linear"),
]
"""What differs: the others repeat the code of these, and are slow."""
KINDS = ("monomial_linear", "covariant_stream", "relative", "relative_exp")
GAUGE = ("heads on a stream", "grouped", "adapter")


def slow_unless(case: Any, fast: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    marks = [] if case in fast else [pytest.mark.slow]
    return pytest.param(*values, marks=marks)


def layer_of(name: str, kind: str) -> Any:
    build = LAYERS[kind].build
    return random_module(lambda: build(WHERE[name], C_IN, C_OUT, rngs=nnx.Rngs(0)))


@functools.cache
def compiled(name: str, kind: str) -> Callable[..., Any]:
    return fast_jit(layer_of(name, kind))


class Verdict(NamedTuple):
    """How a layer does: gap of the law, and of what should not be one."""

    law: float
    uncoupled: float
    response: float


def verdict(run: Callable[..., Any], spec: WeightSpec, seed: int = 0) -> Verdict:
    """The law, an unrelated element in its place, and unrelated features."""
    act = compiled_act(spec)
    feats, others = (random_features(seed + n, spec, C_IN) for n in (0, 50))
    g, h = (element_of(spec, seed + n) for n in (0, 50))
    out, moved, other = run(feats), run(act(g, feats)), run(others)
    return Verdict(
        relative_gap(moved, act(g, out)),
        relative_gap(moved, act(h, out)),
        min(relative_gap(other[path], out[path]) for path in out),
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [slow_unless((name, kind), STRICT) for name in WHERE for kind in KINDS],
)
def test_commutes_with_the_group(name: str, kind: str) -> None:
    for seed in range(2):
        found = verdict(compiled(name, kind), WHERE[name], seed)
        assert found.law < RTOL
        assert found.uncoupled > 1e-2
        assert found.response > 1e-3


def after_relu(feats: Any) -> Any:
    """An elementwise nonlinearity, which heads do not allow."""
    return jax.tree.map(jax.nn.relu, compiled("heads", "monomial_linear")(feats))


def gated_by_norms(feats: Any) -> Any:
    """A gate of the norms of heads, which are no invariants."""
    out = dict(compiled("heads", "monomial_linear")(feats))
    size = jnp.sum(jnp.square(feats["query/kernel"]), (0, 2, 3))
    path = "query/kernel"
    out[path] = out[path] * jax.nn.sigmoid(size)[None, :, None, None]
    return out


def biased(feats: Any) -> Any:
    out = dict(compiled("heads", "monomial_linear")(feats))
    out["query/bias"] = out["query/bias"] + 1
    return out


def permuted_only(feats: Any) -> Any:
    """A layer of the permutations alone: it mixes the units of a head."""
    spec = HEADS["heads"].permutations_only()
    build = LAYERS["monomial_linear"].build
    return random_module(lambda: build(spec, C_IN, C_OUT, rngs=nnx.Rngs(0)))(feats)


@pytest.mark.parametrize("broken", [after_relu, gated_by_norms, biased, permuted_only])
def test_broken_layers_are_caught(broken: Any) -> None:
    run = fast_jit(broken) if broken is permuted_only else broken
    found = verdict(run, HEADS["heads"])
    assert found.law > 1e-2
    assert found.response > 1e-3


def test_a_constant_layer_is_caught() -> None:
    """It obeys the law, and every other one as well."""

    def zeros(feats: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, feats)

    found = verdict(zeros, HEADS["heads"])
    assert found == Verdict(0, 0, 0)


@functools.cache
def gauge(name: str) -> Callable[..., Any]:
    """Output, what a pool makes of it and of that of `beta`, and alpha's element."""
    spec, layer = WHERE[name], layer_of(name, "gauge")
    pool = pool_of(spec, C_OUT)

    def run(feats: Any) -> Any:
        out = layer(feats)
        alpha = elements(spec, layer.alpha(feats))
        return out, pool(out), pool(layer.beta(feats)), alpha

    return fast_jit(run)


def pool_of(spec: WeightSpec, channels: int) -> Any:
    return random_module(
        lambda: InvariantPool(
            spec, channels, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
        )
    )


@pytest.mark.parametrize("name", [slow_unless(name, GAUGE) for name in WHERE])
def test_gauge_law(name: str) -> None:
    """`F(g U) = h F(U)` with `h = alpha(g U) g alpha(U)^-1`, which no pool sees."""
    spec, act, run = WHERE[name], compiled_act(WHERE[name]), gauge(name)
    feats, g = random_features(0, spec, C_IN), element_of(spec, 0, 30.0)
    out, pooled, plain, before = run(feats)
    got, seen, _, after = run(act(g, feats))
    spaces.check_elements(spec, after)
    h = fast_jit(
        lambda a, g, b: spaces.mul(spec, a, spaces.mul(spec, g, spaces.inv(spec, b)))
    )(after, g, before)
    assert relative_gap(got, act(h, out)) < RTOL
    # Else the map is constant, and the law the strict one.
    assert relative_gap(got, act(g, out)) > 1e-3
    assert relative_gap(seen, pooled) < RTOL
    assert relative_gap(pooled, plain) < RTOL
    other = run(random_features(9, spec, C_IN))
    assert relative_gap(other[1], pooled) > 1e-2


POOLS = ("heads on a stream", "grouped", "adapter", "vit, class token")


@pytest.mark.parametrize("name", [slow_unless(name, POOLS) for name in WHERE])
def test_pools_are_invariant(name: str) -> None:
    spec = WHERE[name]
    run = fast_jit(pool_of(spec, C_IN))
    feats = random_features(0, spec, C_IN)
    moved = compiled_act(spec)(element_of(spec, 0), feats)
    assert relative_gap(run(moved), run(feats)) < RTOL
    assert relative_gap(run(random_features(1, spec, C_IN)), run(feats)) > 1e-2


def test_norms_of_heads_are_caught() -> None:
    spec = HEADS["heads"]
    feats = random_features(0, spec, C_IN)
    moved = compiled_act(spec)(element_of(spec, 0), feats)
    norms = [
        np.sum(np.square(x["query/kernel"]), (0, 2)).mean(0) for x in (feats, moved)
    ]
    assert relative_gap(norms[1], norms[0]) > 1e-2


@pytest.mark.parametrize("kind", ["gauge", "relative"])
def test_gradient_of_alpha_under_an_invariant_head(kind: str) -> None:
    """What the gauge part of a map does, no invariant head can see.

    A relative map is seen by a pool right behind it, which mixes channels: the product
    of one channel's queries and keys is moved by no change of basis of that channel.
    """
    spec = HEADS["heads"]
    graph, params = nnx.split(layer_of("heads", kind))
    pool, feats = pool_of(spec, C_OUT), random_features(0, spec, C_IN)

    def loss(params: Any) -> jax.Array:
        return jnp.sum(jnp.sin(pool(nnx.merge(graph, params)(feats))))

    grads = fast_jit(jax.grad(loss))(nnx.to_pure_dict(params))
    norms = {
        part: max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(grads[part]))
        for part in ("alpha", "beta")
    }
    assert norms["beta"] > 1e-2
    if kind == "gauge":
        assert norms["alpha"] < 1e-12 * norms["beta"]
    else:
        assert norms["alpha"] > 1e-2 * norms["beta"]


@pytest.mark.parametrize("kind", ["gauge", "relative"])
def test_alpha_returns_invertible_matrices_and_acts_with_them(kind: str) -> None:
    name = "grouped"
    spec, layer = HEADS[name], layer_of(name, kind)
    inputs, feats = (random_features(n, spec, c) for n, c in ((0, C_IN), (1, C_OUT)))
    run = fast_jit(lambda f, u: (layer.alpha(f), act_scales(spec, layer.alpha(f), u)))
    scales, got = run(inputs, feats)
    assert set(scales) == {space.name for space in linear_spaces(spec)}
    for channel in range(C_OUT):
        g = elements(spec, scales, None if kind == "gauge" else channel)
        spaces.check_elements(spec, g)
        expected = compiled_act(spec)(g, feats)
        for path, x in got.items():
            a, b = (np.asarray(y)[..., channel] for y in (x, expected[path]))
            assert relative_gap(a, b) < RTOL, path
