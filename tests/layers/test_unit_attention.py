"""Attention over units: its formula, its signs, and what each of its parts adds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers
from qejax.layers._unit_attention import UnitAttention
from qejax.spaces import WeightSpec
from tests.layer_specs import SPECS, fast_jit, random_module
from tests.layers.test_signed import module_of, pair_of
from tests.registry import RTOL

PARTS = ("query", "key", "near", "far", "square")


def pooled_gap(module: Any, spec: WeightSpec) -> float:
    """How far an element moves the pooled features."""
    feats, moved, _ = pair_of(spec)
    run = fast_jit(lambda leaves: layers.pool_signed(module(leaves)))
    return float(jnp.abs(run(moved) - run(feats)).max())


@pytest.mark.parametrize("folded", [1, 3])
def test_the_formula_entry_by_entry(folded: int) -> None:
    n, m, heads, size = 3, 4, 2, 2
    channels = heads * size
    module = random_module(
        lambda: UnitAttention(
            channels, folded, heads, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
        )
    )
    rng = np.random.default_rng(1)
    flat = rng.normal(size=(n, m, folded))
    even, alike = (
        (rng.normal(size=(n, channels)), rng.normal(size=(m, channels)))
        for _ in range(2)
    )
    query, key, near, far, square = (
        np.asarray(getattr(module, part)[...]) for part in PARTS
    )
    got = fast_jit(module.__call__)(flat, even, alike)
    assert got.shape == (heads, n, m, folded)
    far = far.reshape(channels, folded, channels)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for i in range(n):
            logits = np.zeros(m)
            for j in range(m):
                logits[j] += (even[0][i] @ query)[own] @ (even[1][j] @ key)[own]
                p = (alike[0][i] @ near)[own]
                for f in range(folded):
                    r, w = (alike[1][j] @ far[:, f])[own], flat[i, j, f]
                    logits[j] += w * p @ r / np.sqrt(folded)
                logits[j] /= np.sqrt(size)
                logits[j] += flat[i, j] ** 2 @ square[:, head]
            weights = m * np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(
                got[head, i], weights[:, None] * flat[i], rtol=RTOL
            )


def test_at_first_nothing_is_weighted() -> None:
    module = UnitAttention(4, 2, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(3, 5, 2))
    ends = jnp.asarray(rng.normal(size=(3, 4))), jnp.asarray(rng.normal(size=(5, 4)))
    for seen in module(jnp.asarray(flat), ends, ends):
        np.testing.assert_allclose(seen, flat, rtol=RTOL)


def test_equal_logits_leave_plain_sums() -> None:
    """And heads whose logits differ do not."""
    spec = SPECS["residual-sign"]
    plain, module = module_of(spec), module_of(spec, heads=2)
    feats, _, _ = pair_of(spec)
    state = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    for block in state["blocks"].values():
        block.pop("attend")
    nnx.update(plain, state)
    expected, got = (
        fast_jit(lambda leaves, run=run: layers.pool_signed(run(leaves)))(feats)
        for run in (plain, module)
    )
    assert float(jnp.abs(got - expected).max()) > 1e-3
    for block in module.blocks.values():
        for attend in block["attend"].values():
            for part in PARTS:
                weight = getattr(attend, part)
                weight.set_value(jnp.zeros_like(weight[...]))
    got = fast_jit(lambda leaves: layers.pool_signed(module(leaves)))(feats)
    np.testing.assert_allclose(got, expected, rtol=RTOL)


@pytest.mark.parametrize("name", ["mlp-sign", "residual-sign", "conv-sign"])
def test_every_part_is_learned(name: str) -> None:
    spec = SPECS[name]
    module, feats = module_of(spec, heads=2), pair_of(spec)[0]
    graph, params = nnx.split(module)

    @fast_jit
    def slope(params: Any) -> Any:
        return jax.grad(
            lambda p: jnp.sum(layers.pool_signed(nnx.merge(graph, p)(feats)) ** 2)
        )(params)

    blocks = nnx.to_pure_dict(slope(params))["blocks"]
    # In the first round some units have no even features yet, so that all are alike.
    for attend in blocks[max(blocks)]["attend"].values():
        assert set(attend) == set(PARTS)
        for part, grad in attend.items():
            assert float(jnp.abs(grad).max()) > 1e-8, part


Look = Callable[[Any, Any, Any], tuple[Any, Any]]

WRONG: dict[str, Look] = {
    "odd features for even ones": lambda flat, even, alike: (alike, alike),
    "even features for odd ones": lambda flat, even, alike: (even, even),
    "odd at one end only": lambda flat, even, alike: (even, (even[0], alike[1])),
}


@pytest.mark.parametrize("name", WRONG)
def test_features_of_the_wrong_parity_are_caught(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controls, of which the right one does not move."""
    spec = SPECS["mlp-sign"]
    module = module_of(spec, heads=2)
    assert pooled_gap(module, spec) < RTOL
    right = UnitAttention.__call__

    def wrong(self: UnitAttention, flat: Any, even: Any, alike: Any) -> Any:
        return right(self, flat, *WRONG[name](flat, even, alike))

    monkeypatch.setattr(UnitAttention, "__call__", wrong)
    assert pooled_gap(module, spec) > 1e-3


def test_logits_of_raw_entries_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: `w` where the formula has `w^2`."""
    spec = SPECS["mlp-sign"]
    module = module_of(spec, heads=2)

    def wrong(self: UnitAttention, flat: Any, even: Any, alike: Any) -> Any:
        weights = flat.shape[1] * jax.nn.softmax(flat, axis=1)
        return jnp.broadcast_to(weights * flat, (self.heads, *flat.shape))

    monkeypatch.setattr(UnitAttention, "__call__", wrong)
    assert pooled_gap(module, spec) > 1e-3


def test_a_unit_alone_is_taken_whole() -> None:
    """Softmax over one unit is one: no logit is needed, and none is NaN."""
    spec = SPECS["width_one-sign"]
    feats, moved, _ = pair_of(spec)
    module = module_of(spec, heads=2)
    run = fast_jit(lambda leaves: layers.pool_signed(module(leaves)))
    assert bool(jnp.all(jnp.isfinite(run(feats))))
    np.testing.assert_allclose(run(moved), run(feats), rtol=RTOL)


@pytest.mark.parametrize("heads", [-1, 3])
def test_heads_that_do_not_divide_channels_are_refused(heads: int) -> None:
    message = "expected 0 for plain sums, or a number that divides the 4 channels"
    with pytest.raises(ValueError, match=message):
        module_of(SPECS["mlp-sign"], heads=heads)
