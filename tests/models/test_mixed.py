"""One predictor over mixed architectures: the laws of a mixed zoo, each with a control.

Networks of every kind that there is, two architectures of each at least; three sizes.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets, zoo
from qejax.spaces import Chain, ChainForm, chain_statistics
from qejax.testing import tolerance_of
from tests.chain_networks import NETS, moved, thetas
from tests.layer_specs import fast_jit
from tests.registry import RTOL

EXACT = functools.reduce(nets.PadSize.joined, map(nets.size_of, NETS.values()))
LARGE = replace(EXACT, layers=7, width=9, window=7)
LARGER = nets.PadSize(9, 12, 9, 5, 12, 5)
NAMES: dict[str, Any] = {"float32": "float32", "float64": "float64"}
WEIGHTS = ("first", "middle", "last", "bias")
SIZES = {"exact": EXACT, "large": LARGE, "larger": LARGER}


@functools.cache
def predictor(dtype: Any) -> models.MixedPredictor:
    name = NAMES[np.dtype(dtype).name]
    config = models.MixedConfig(
        hidden_units=8, embed=8, hidden=8, heads=2, precision=name
    )
    return models.MixedPredictor(LARGER, 4, config=config, rngs=nnx.Rngs(0))


@functools.cache
def program(dtype: Any) -> Callable[[Any, Chain], jax.Array]:
    """The scores of many chains; compiled once for each shape."""
    graph, _ = nnx.split(predictor(dtype))
    return jax.jit(lambda state, chains: jax.vmap(nnx.merge(graph, state))(chains))


def scores(chains: list[Chain]) -> np.ndarray:
    stacked = jax.tree.map(lambda *x: np.stack(x), *chains)
    dtype = chains[0].first.dtype.type
    return np.asarray(program(dtype)(nnx.split(predictor(dtype))[1], stacked))


def chains_of(thetas: dict[str, Any], size: nets.PadSize) -> list[Chain]:
    return [nets.padded(NETS[name], theta, size) for name, theta in thetas.items()]


def spread() -> float:
    """Of the scores of unrelated networks."""
    found = [scores(chains_of(thetas(seed), LARGE)) for seed in range(2)]
    return float(np.median(np.abs(found[0] - found[1])))


def test_unrelated_networks_have_different_scores() -> None:
    one, other = (scores(chains_of(thetas(seed), LARGE)) for seed in range(2))
    assert np.all(np.isfinite(one))
    assert np.all(np.abs(one - other) > 1e-4)
    assert len(np.unique(np.round(one, 6))) == len(NETS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.one_in(3)
def test_invariant_to_the_whole_group_of_every_network(seed: int) -> None:
    before, after = (scores(chains_of(t, LARGE)) for t in (thetas(), moved(seed)))
    gaps = dict(zip(NETS, np.abs(after - before) / spread(), strict=True))
    assert max(gaps.values()) < RTOL, gaps


def test_padding_changes_nothing() -> None:
    exact, large, larger = (scores(chains_of(thetas(), s)) for s in SIZES.values())
    assert np.max(np.abs(large - exact)) < RTOL * spread()
    assert np.max(np.abs(larger - exact)) < RTOL * spread()


def test_control_without_masks_padding_is_seen() -> None:
    """The same model where padded units count as units."""
    filled = []
    for size in (EXACT, LARGER):
        chains = chains_of(thetas(), size)
        filled.append(scores([c._replace(live=np.ones_like(c.live)) for c in chains]))
    assert np.all(np.abs(filled[0] - filled[1]) > 1e-4 * spread())


def test_a_prediction_does_not_depend_on_its_batch_mates() -> None:
    chains = chains_of(thetas(), LARGE)
    together = scores(chains)
    backwards = scores(chains[::-1])[::-1]
    np.testing.assert_array_equal(together, backwards)
    alone = np.asarray(_alone()(nnx.split(predictor(np.float64))[1], chains[3]))
    assert abs(together[3] - alone) < RTOL * spread()
    for value in (np.nan, np.inf, 1e300):
        broken = jax.tree.map(lambda x: x, chains)
        wild = {k: np.full_like(getattr(broken[5], k), value) for k in WEIGHTS}
        broken[5] = broken[5]._replace(**wild)
        found = scores(broken)
        assert np.array_equal(np.delete(found, 5), np.delete(together, 5))
        assert found[5] != together[5]


@functools.cache
def _alone() -> Callable[[Any, Chain], jax.Array]:
    graph, _ = nnx.split(predictor(np.float64))
    return fast_jit(lambda state, chain: nnx.merge(graph, state)(chain))


def sensitive(of_chains: Callable[[list[Chain]], np.ndarray], name: str) -> list[str]:
    """The leaves of a network and facts of its layers that a model does not see."""
    net, theta = NETS[name], thetas()[name]
    changed = {}
    for leaf in net.spec.leaves:
        other = jax.tree.map(np.copy, theta)
        layer, key = leaf.path.split("/")
        draw = np.random.default_rng(0).uniform(0.5, 1.5, leaf.stored)
        other[layer][key] = other[layer][key] * draw
        changed[leaf.path] = nets.padded(net, other, LARGE)
    plain = nets.padded(net, theta, LARGE)
    for number in range(plain.facts.shape[1]):
        # As if another activation, another place, another stride.
        facts = np.where(np.arange(plain.facts.shape[1]) == number, 0.3, plain.facts)
        changed[f"fact {number}"] = plain._replace(facts=facts)
    chains = [plain, *changed.values()]
    # One shape for all networks, so that nothing compiles again.
    chains += [plain] * (-len(chains) % len(NETS))
    parts = range(0, len(chains), len(NETS))
    found = np.concatenate([of_chains(chains[p : p + len(NETS)]) for p in parts])
    gaps = np.abs(found[1 : 1 + len(changed)] - found[0])
    return [name for name, gap in zip(changed, gaps, strict=True) if gap < 1e-9]


SENSITIVE = ("mlp, mixed", "cnn, flatten, pools, hidden", "skips, relu and tanh")


@pytest.mark.parametrize("name", SENSITIVE)
def test_every_leaf_and_every_fact_is_seen(name: str) -> None:
    assert sensitive(scores, name) == []


def test_control_a_constant_sees_nothing() -> None:
    missed = sensitive(lambda chains: np.zeros(len(chains)), SENSITIVE[0])
    assert len(missed) == len(NETS[SENSITIVE[0]].spec.leaves) + nets.NUM_FACTS


def test_a_skip_is_seen() -> None:
    name = "skips, relu and tanh"
    chain = nets.padded(NETS[name], thetas()[name], LARGE)
    chains = [chain, chain._replace(skip=np.zeros_like(chain.skip))]
    found = scores([*chains, *[chain] * (len(NETS) - 2)])
    assert abs(found[0] - found[1]) > 1e-6


def test_control_without_the_normal_form_scales_are_seen() -> None:
    model = predictor(np.float64)

    def raw(chain: Chain) -> Any:
        found = chain_statistics(ChainForm(chain, jnp.zeros(())))
        return model.read(models.Measured(chain, found.layers, found.network))

    run = fast_jit(jax.vmap(raw))
    before, after = (
        np.asarray(run(jax.tree.map(lambda *x: np.stack(x), *chains_of(t, EXACT))))
        for t in (thetas(), moved(0, 10.0))
    )
    gaps = dict(zip(NETS, np.abs(after - before), strict=True))
    assert gaps["mlp, one layer"] > 1e-4
    assert gaps["cnn, strided"] > 1e-4


def test_compiled_once_for_each_size() -> None:
    """Two rungs, three epochs, fourteen architectures: two programs."""
    networks = [*NETS.values()]
    weights = [thetas()[name] for name in NETS]
    ladder = nets.ladder_of(networks, 2)
    assert len(ladder) == 2
    graph, state = nnx.split(predictor(np.float64))
    run: Any = jax.jit(lambda s, chains: units_of(nnx.merge(graph, s), chains))
    seen = []
    for epoch in range(3):
        for batch in zoo.mixed_batches(networks, weights, ladder, 4, (7, epoch)):
            seen.append(np.asarray(run(state, batch.chains)).shape)
    assert set(seen) == {(4,)}
    assert run._cache_size() == 2


def units_of(model: models.MixedPredictor, chains: Chain) -> jax.Array:
    """The trained half alone: what compiles fast."""
    return jax.vmap(lambda chain: jnp.sum(model.mix(chain).even))(chains)


def test_gradients_are_finite() -> None:
    """Of parameters and of weights; at zero biases, dead units, and padding."""
    zero = jax.tree.map(np.zeros_like, thetas()["mlp, mixed"])
    dead = jax.tree.map(np.copy, thetas()["cnn, strided"])
    dead["layer_00"]["kernel"][..., 1] = 0
    dead["layer_00"]["bias"][:] = 0
    chains = [nets.padded(NETS["mlp, mixed"], zero, LARGE)]
    chains += [nets.padded(NETS["cnn, strided"], dead, LARGE)]
    chains += [nets.padded(NETS["skips, mixed"], thetas()["skips, mixed"], LARGE)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *chains)
    graph, params, rest = nnx.split(predictor(np.float64), nnx.Param, ...)
    weights = {k: getattr(stacked, k) for k in WEIGHTS}

    def total(params: Any, weights: Any) -> jax.Array:
        model = nnx.merge(graph, params, rest)
        return jnp.sum(jax.vmap(model)(stacked._replace(**weights)))

    found = fast_jit(jax.grad(total, (0, 1)))(params, weights)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))
    assert all(np.any(x != 0) for x in jax.tree.leaves(found[1]))
    # Padding is no part of the network.
    padding = ~np.asarray(stacked.live)
    assert np.all(np.asarray(found[1]["bias"])[padding] == 0)


def test_float32_at_large_scales() -> None:
    found = []
    for given in (thetas(), moved(1)):
        chains = [
            nets.padded(NETS[name], _single(theta), LARGE)
            for name, theta in given.items()
        ]
        assert chains[0].first.dtype == chains[0].facts.dtype == np.float32
        found.append(scores(chains))
    assert found[0].dtype == np.float32
    assert np.max(np.abs(found[1] - found[0])) < 1e-4 * spread()


def _single(theta: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(np.float32), theta)


def test_calibrated_statistics_are_normal_scores() -> None:
    model = models.MixedPredictor(EXACT, 2, rngs=nnx.Rngs(0))
    size = model.knots[...].shape[1]
    values = np.random.default_rng(0).normal(3.0, 2.0, (40, size))
    model.calibrate(values)
    assert 2 < float(jnp.mean(model.knots[...])) < 4


def test_larger_networks_than_were_built_for_are_named() -> None:
    model = models.MixedPredictor(nets.PadSize(2, 4, 1, 4, 3), 2, rngs=nnx.Rngs(0))
    name = "cnn, strided"
    with pytest.raises(ValueError, match="heads and outputs of at most"):
        jax.eval_shape(model, nets.padded(NETS[name], thetas()[name]))


def test_in_bfloat16() -> None:
    """At scales of 1e4 a layer, at the tolerance of that dtype."""
    config = replace(predictor(np.float32).config, precision="bfloat16")
    model = models.MixedPredictor(LARGER, 4, config=config, rngs=nnx.Rngs(0))
    run = fast_jit(jax.vmap(model))

    def low(weights: dict[str, Any]) -> np.ndarray:
        chains = chains_of(jax.tree.map(np.float32, weights), LARGE)
        return np.asarray(run(jax.tree.map(lambda *x: np.stack(x), *chains)))

    here, other, there = map(low, (thetas(), thetas(1), moved(0)))
    assert here.dtype == np.float32
    spread = float(np.median(np.abs(here - other)))
    assert spread > 1e-3
    assert np.max(np.abs(there - here)) <= tolerance_of("bfloat16") * spread
    # Control: the same network with full digits is not the same number.
    full = scores(chains_of(jax.tree.map(np.float32, thetas()), LARGE))
    assert 0 < np.max(np.abs(full - here)) < 10 * tolerance_of("bfloat16") * spread
