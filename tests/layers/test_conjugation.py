"""Matrices that a change of basis conjugates: bounded, so that alpha is invertible."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax.layers import (
    Conjugation,
    GaugeAlpha,
    RelativeAlpha,
    check_scales,
    linear_spaces,
    pair_of,
)
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec
from tests.layer_specs import (
    HEADS,
    SPECS,
    compiled_act,
    fast_jit,
    random_features,
    random_module,
    relative_gap,
)
from tests.registry import RTOL, element_of

C = 3
LINEAR = [(name, s.name) for name, spec in HEADS.items() for s in linear_spaces(spec)]
# The adapter stands between units that scale: nothing else to conjugate with.
PAIRED = [(name, space) for name, space in LINEAR if name != "adapter"]


def free_adapter() -> WeightSpec:
    """An adapter between fixed inputs and a set of units: rows of another kind."""
    return WeightSpec(
        (UnitSpace("units", 3), UnitSpace("rank", 2, "general_linear")),
        (
            Leaf("a", (Axis(4), Axis(2, "rank", 1))),
            Leaf("b", (Axis(2, "rank", -1), Axis(3, "units", 1))),
        ),
    )


ALL = HEADS | {"free adapter": free_adapter()}


@functools.cache
def conjugation(name: str, space: str) -> Any:
    spec = ALL[name]
    pair = pair_of(spec, spec.space_by_name[space])
    assert pair is not None
    return fast_jit(random_module(lambda: Conjugation(spec, pair, C, rngs=nnx.Rngs(0))))


def radius(matrices: Any) -> float:
    return float(np.max(np.abs(np.linalg.eigvals(np.asarray(matrices)))))


def test_pairs() -> None:
    spec = HEADS["heads"]
    for space, paths in (("qk", ["query", "key"]), ("vo", ["value", "out"])):
        pair = pair_of(spec, spec.space_by_name[space])
        assert pair is not None
        found = [pair.write.leaf.path, pair.read.leaf.path]
        assert found == [f"{path}/kernel" for path in paths]
        assert pair.aligned
    free = ALL["free adapter"]
    pair = pair_of(free, free.space_by_name["rank"])
    assert pair is not None
    assert not pair.aligned
    scaled = HEADS["adapter"]
    assert pair_of(scaled, linear_spaces(scaled)[0]) is None


@pytest.mark.parametrize(("name", "space"), [*PAIRED, ("free adapter", "rank")])
def test_a_change_of_basis_conjugates(name: str, space: str) -> None:
    spec, run = ALL[name], conjugation(name, space)
    feats, g = random_features(0, spec, C), element_of(spec, 0)
    x = np.asarray(run(feats))
    got = np.asarray(run(compiled_act(spec)(g, feats)))
    a = np.asarray(g[space])
    host = spec.space_by_name[space].per
    old = x if host is None else x[np.asarray(g[host].perm)]
    expected = a @ old @ np.linalg.inv(a)
    assert relative_gap(got, expected) < RTOL
    assert relative_gap(got, old) > 1e-2


@pytest.mark.parametrize(("name", "space"), [*PAIRED, ("free adapter", "rank")])
def test_the_spectral_radius_is_at_most_one(name: str, space: str) -> None:
    """Of random features, moved ones, aligned ones, and zero for zeros."""
    spec, run = ALL[name], conjugation(name, space)
    found = []
    for seed in range(4):
        feats = random_features(seed, spec, C)
        found += [run(feats), run(compiled_act(spec)(element_of(spec, seed), feats))]
    assert 1e-3 < max(map(radius, found)) <= 1 + 1e-12
    zero = {path: jnp.zeros_like(x) for path, x in random_features(0, spec, C).items()}
    np.testing.assert_array_equal(run(zero), np.zeros_like(found[0]))


def test_aligned_matrices_of_rank_one_reach_the_bound() -> None:
    spec, run = HEADS["heads"], conjugation("heads", "qk")
    feats = {path: jnp.zeros_like(x) for path, x in random_features(0, spec, C).items()}
    row = np.random.default_rng(0).normal(size=(1, 2, 2, 1))
    column = np.random.default_rng(1).normal(size=(2, 2, 1, 1))
    for path in ("query/kernel", "key/kernel"):
        feats[path] = jnp.asarray(np.broadcast_to(row * column, feats[path].shape))
    np.testing.assert_allclose(radius(run(feats)), 1, rtol=1e-12)


def test_control_a_sum_over_channels_is_not_bounded() -> None:
    """Two channels whose products cancel, while those of their transposes do not."""
    w = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    k = np.array([[[1.0, 0.0]], [[0.0, -1.0 + 1e-6]]])
    outer = np.linalg.norm(np.einsum("cmd,cnd->mn", k, w))
    assert radius(np.einsum("cmi,cmj->ij", w, k)) / outer > 1e5
    mixed_w, mixed_k = w.sum(0), k.sum(0)
    assert radius(mixed_w.T @ mixed_k) <= np.linalg.norm(mixed_k @ mixed_w.T) + 1e-12


@pytest.mark.parametrize("kind", ["gauge", "relative"])
def test_alpha_is_invertible(kind: str) -> None:
    """Eigenvalues stay in the disc of radius eps around one, at any parameters."""
    spec, eps = HEADS["heads"], 0.999
    kinds = {
        "gauge": functools.partial(GaugeAlpha, spec, C, eps=eps),
        "relative": functools.partial(RelativeAlpha, spec, C, C, eps=eps),
    }
    alpha = fast_jit(random_module(lambda: kinds[kind](rngs=nnx.Rngs(0))))
    found = []
    for seed in range(2):
        feats = random_features(seed, spec, C)
        found.append(alpha({path: 10 * x for path, x in feats.items()}))
    for scales in found:
        for matrices in scales.values():
            x = np.asarray(matrices)
            x = x if kind == "gauge" else np.moveaxis(x, -1, 0)
            off = x - np.eye(2)
            assert 1e-3 < radius(off) <= eps
            if kind == "gauge":  # Rows sum to less than one.
                assert np.max(np.sum(np.abs(off), -1)) <= eps


def test_control_without_the_width_the_gauge_would_be_singular() -> None:
    worst = np.full((4, 4), -1.0)
    assert abs(np.linalg.det(np.eye(4) + 0.25 * worst)) < 1e-12
    for eps in (0.25, 0.999):
        assert np.linalg.det(np.eye(4) + eps / 4 * worst) >= 1 - eps - 1e-12


def test_where_no_matrix_can_be_made_alpha_is_the_identity() -> None:
    spec = HEADS["adapter"]
    alpha = random_module(lambda: RelativeAlpha(spec, C, 2, rngs=nnx.Rngs(0)))
    scales = fast_jit(alpha)(random_features(0, spec, C))
    expected = np.broadcast_to(np.eye(2)[..., None], (2, 2, 2))
    np.testing.assert_array_equal(scales["layer_01.lora_a"], expected)
    assert linear_spaces(SPECS["mlp-sign"]) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"vo": s["vo"]}, r"expected one entry .* got one without \['qk'\]"),
        (
            lambda s: {**s, "qk": s["qk"][0]},
            r"'qk' should have shape \(2, 2, 2\) or \(2, 2, 2, 3\), got \(2, 2\)",
        ),
        (lambda s: list(s.values()), r"vo: general_linear\(2\).*; got a list"),
    ],
)
def test_bad_input(change: Any, message: str) -> None:
    spec = HEADS["heads"]
    eye = jnp.broadcast_to(jnp.eye(2), (2, 2, 2))
    scales = {"vo": eye, "qk": eye}
    check_scales(spec, scales, C, "a map")
    with pytest.raises(ValueError, match=message):
        check_scales(spec, change(scales), C, "a map")
