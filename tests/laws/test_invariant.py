"""Predictors do not see which point of an orbit they are given."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, models, nets
from qejax.testing import tolerance_of
from tests.layer_specs import fast_jit, random_module
from tests.registry import MLPS_AND_CNNS, RTOL, SPREAD, compiled, element_of, theta_of

KINDS = tuple(models.TRUNKS)
# Every network once and every kind four times at least, of which one in five runs by
# default; all pairs are slow.
CYCLE = {(KINDS[i % len(KINDS)], name) for i, name in enumerate(MLPS_AND_CNNS)}
CASES = [
    pytest.param(kind, name, marks=[] if (kind, name) in CYCLE else [pytest.mark.slow])
    for kind in KINDS
    for name in MLPS_AND_CNNS
]
NUM = 4


def config(**options: Any) -> models.PredictorConfig:
    sizes = {"embed": 8, "hidden": 8, "heads": 2, "rank": 2, "carried": 3, "depth": 1}
    return models.PredictorConfig(**{**sizes, **options})


@functools.cache
def networks(name: str, dtype: str = "float64") -> tuple[Any, Any]:
    """Unrelated networks, and one more point of each orbit; leaves `[NUM, ...]`."""
    spec = MLPS_AND_CNNS[name].net.spec
    plain, moved = [], []
    for seed in range(NUM):
        theta = theta_of(spec, seed, dtype)
        plain.append(theta)
        g = element_of(spec, seed, SPREAD, dtype)
        moved.append(compiled(name).act(g, theta))
    stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
    return stack(*plain), stack(*moved)


def predictor(kind: Any, name: str, network: bool = False, **options: Any) -> Any:
    net = MLPS_AND_CNNS[name].net
    return random_module(
        lambda: models.Predictor(
            net.spec,
            4,
            kind,
            network=net if network else None,
            config=config(**{"precision": "float64", **options}),
            rngs=nnx.Rngs(0),
        )
    )


def gap_and_spread(
    model: Any, name: str, dtype: str = "float64"
) -> tuple[float, float]:
    """Largest change along the orbits over the spread of unrelated networks."""
    plain, moved = networks(name, dtype)
    run = fast_jit(jax.vmap(model))
    here, there = np.asarray(run(plain)), np.asarray(run(moved))
    assert np.all(np.isfinite(here))
    spread = here.std()
    return float(np.abs(here - there).max() / spread), float(spread)


def test_the_cycle_leaves_no_network_and_no_kind_out() -> None:
    assert {name for _, name in CYCLE} == set(MLPS_AND_CNNS)
    counts = [sum(kind == other for other, _ in CYCLE) for kind in KINDS]
    assert min(counts) >= 4


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.one_in(5)
def test_invariant_to_the_whole_group(kind: str, name: str) -> None:
    depth = 2 if name == "residual" else 1
    gap, spread = gap_and_spread(predictor(kind, name, depth=depth), name)
    assert spread > 1e-4
    assert gap <= RTOL


@pytest.mark.parametrize("name", ["tanh", "cnn, strided, gap"])
@pytest.mark.one_in(2)
def test_invariant_with_every_exact_reading_and_probes(name: str) -> None:
    readings = {
        "statistics": tuple(n for n in models.STATISTICS if n != "raw"),
        "sketches": tuple(models.SKETCHES),
        "shape": MLPS_AND_CNNS[name].inputs,
        "probes": 4,
        "stream": 3,
    }
    model = predictor("canonical", name, network=True, **readings)
    plain, _ = networks(name)
    model.calibrate(models.measure_all(model, plain), np.arange(NUM))
    gap, spread = gap_and_spread(model, name)
    assert spread > 1e-4
    assert gap <= RTOL


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.one_in(3)
def test_float32(kind: str) -> None:
    model = predictor(kind, "one hidden layer", precision="float32")
    gap, _ = gap_and_spread(model, "one hidden layer", "float32")
    assert gap <= tolerance_of("float32")


def test_raw_statistics_and_flat_weights_are_caught() -> None:
    raw = predictor("canonical", "cnn, strided, gap", statistics=("raw",))
    flat = models.FlatMLP(
        MLPS_AND_CNNS["cnn, strided, gap"].net.spec, (8,), rngs=nnx.Rngs(0)
    )
    with jax.numpy_dtype_promotion("standard"):
        for broken in (raw, flat):
            gap, _ = gap_and_spread(broken, "cnn, strided, gap")
            assert gap > 1e-3


def test_layer_norm_on_raw_weights_is_caught() -> None:
    model = predictor("strict", "cnn, strided, gap")
    whole = model.trunk.layers["00"]

    def broken(theta: Any) -> jax.Array:
        raw = model.trunk.waves(model.prepare(theta)["features"])
        feats = {k: layers.layer_norm(x) for k, x in raw.items()}
        feats = {k: x + raw[k] + 0.1 for k, x in feats.items()}
        return jnp.sum(model.trunk.pool(whole(feats)))

    with jax.numpy_dtype_promotion("standard"):
        model.trunk.pool = layers.InvariantPool(
            model.spec, 4, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(1)
        )
        gap, _ = gap_and_spread(broken, "cnn, strided, gap")
    assert gap > 1e-3


@pytest.mark.slow
def test_jit_and_vmap_change_nothing() -> None:
    # Few different shapes: outside jit, each operation is compiled once for each.
    net = nets.mlp((2, 2, 2))
    sizes = {"embed": 2, "hidden": 2, "rank": 2, "carried": 2}
    options = config(precision="float64", **sizes)
    model = random_module(
        lambda: models.Predictor(
            net.spec, 2, "learned_gauge", config=options, rngs=nnx.Rngs(0)
        )
    )
    thetas = theta_of(net.spec, 0, batch=(2,))
    batched = np.asarray(fast_jit(jax.vmap(model))(thetas))
    single = fast_jit(model)
    for row in range(2):
        theta = jax.tree.map(lambda x, row=row: x[row], thetas)
        np.testing.assert_allclose(single(theta), batched[row], rtol=1e-12)
    eager = model(jax.tree.map(lambda x: x[0], thetas))
    np.testing.assert_allclose(eager, batched[0], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.one_in(3)
def test_gradients_are_finite_where_units_are_dead(kind: Any) -> None:
    net = nets.mlp((2, 3, 1, 2))
    options = config(precision="float64")
    model = random_module(
        lambda: models.Predictor(net.spec, 3, kind, config=options, rngs=nnx.Rngs(0))
    )
    live = theta_of(net.spec, 0)
    zero = jax.tree.map(jnp.zeros_like, live)
    dead = jax.tree.map(jnp.copy, live)
    dead["layer_00"]["kernel"] = dead["layer_00"]["kernel"].at[:, 1].set(0)
    dead["layer_00"]["bias"] = dead["layer_00"]["bias"].at[1].set(0)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    prepared = fast_jit(jax.vmap(model.prepare))(
        jax.tree.map(lambda *x: jnp.stack(x), live, zero, dead)
    )

    @fast_jit
    def gradients(params: Any, features: Any) -> Any:
        def score(params: Any, one: Any) -> Any:
            return nnx.merge(graph, params, rest).read(one)

        return jax.vmap(jax.grad(score, argnums=(0, 1)), (None, 0))(params, features)

    found = gradients(nnx.to_pure_dict(params), prepared)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))


@pytest.mark.parametrize("kind", ["canonical", "learned_gauge"])
@pytest.mark.one_in(2)
def test_gradients_go_through_prepare(kind: Any) -> None:
    """To the weights themselves, with every reading that is a function of them."""
    net = nets.mlp((2, 3, 2))
    readings = {
        "statistics": tuple(models.STATISTICS),
        "sketches": tuple(models.SKETCHES),
        "probes": 2,
        "shape": (2,),
        "precision": "float64",
    }
    plain: dict[str, Any] = {"config": config(precision="float64")}
    if kind == "canonical":
        plain = {"config": config(**readings), "network": net}
    model = random_module(
        lambda: models.Predictor(net.spec, 3, kind, rngs=nnx.Rngs(0), **plain)
    )
    live = theta_of(net.spec, 0)
    dead = jax.tree.map(jnp.copy, live)
    dead["layer_00"]["kernel"] = dead["layer_00"]["kernel"].at[:, 1].set(0)
    dead["layer_00"]["bias"] = dead["layer_00"]["bias"].at[1].set(0)
    zero = jax.tree.map(jnp.zeros_like, live)
    # Of the live network: the slope along a direction.
    along = theta_of(net.spec, 5)
    near = [
        jax.tree.map(lambda x, d, s=s: x + s * d, live, along) for s in (1e-6, -1e-6)
    ]
    thetas = jax.tree.map(lambda *x: jnp.stack(x), live, dead, zero, *near)
    with jax.numpy_dtype_promotion("standard"):
        values, found = fast_jit(jax.vmap(jax.value_and_grad(model)))(thetas)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))
    ahead, behind = values[3:]
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(along), strict=True)
    slope = sum(float(jnp.vdot(g[0], d)) for g, d in pairs)
    np.testing.assert_allclose(2e-6 * slope, ahead - behind, rtol=1e-4)
    assert abs(slope) > 1e-3


def test_a_gauge_gets_no_gradient_and_a_relative_map_does() -> None:
    name = "one hidden layer"
    plain, _ = networks(name)
    with jax.numpy_dtype_promotion("standard"):
        report = {
            kind: models.alpha_gradient_report(predictor(kind, name), plain)
            for kind in ("gauge", "relative", "learned_gauge")
        }
    assert report["gauge"]["ratio"] < 1e-10
    assert report["relative"]["ratio"] > 1e-3
    assert report["learned_gauge"]["ratio"] > 1e-3
    assert all(numbers["rest"] > 0 for numbers in report.values())
