"""The law of every model that computes in bfloat16, at the tolerance of that dtype.

Weights are float32, moved by the group with scales of 1e4 in every layer. A control
shows that without a normal form first the same model fails, and that constants do.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, models, nets, spaces
from qejax.testing import tolerance_of
from tests.layer_specs import fast_jit, random_module
from tests.registry import COND, NETS, SPREAD, element_of, theta_of

NUM = 4
TOLERANCE = tolerance_of("bfloat16")
NETWORKS: dict[str, nets.Network] = {
    "two hidden layers": nets.mlp((3, 5, 4, 2)),
    "four hidden layers": nets.mlp((3, 5, 4, 4, 3, 2)),
    "cnn": NETS["cnn, strided, gap"].net,
    "transformer": NETS["small transformer zoo"].net,
}
FAST = {
    *((kind, "two hidden layers") for kind in models.TRUNKS),
    ("canonical", "four hidden layers"),
    ("signed", "cnn"),
}
CASES = [
    pytest.param(kind, name, marks=[] if (kind, name) in FAST else [pytest.mark.slow])
    for name in NETWORKS
    for kind in models.TRUNKS
]


@functools.cache
def networks(name: str) -> tuple[Any, Any]:
    """Unrelated networks in float32, and another point of each orbit, far away."""
    spec = NETWORKS[name].spec
    spread = COND if spaces.has_matrices(spec) else SPREAD
    act = fast_jit(functools.partial(spaces.act, spec))
    plain = [theta_of(spec, seed) for seed in range(NUM)]
    moved = [act(element_of(spec, n, spread), one) for n, one in enumerate(plain)]
    stack = functools.partial(
        jax.tree.map, lambda *x: jnp.asarray(np.stack(x), jnp.float32)
    )
    return stack(*plain), stack(*moved)


def gap_and_spread(fn: Callable[[Any], Any], name: str) -> tuple[float, float]:
    """Largest change along the orbits over the spread of unrelated networks."""
    run = fast_jit(jax.vmap(fn))
    here, there = (np.asarray(run(thetas)) for thetas in networks(name))
    assert here.dtype == np.float32
    assert np.all(np.isfinite(here))
    assert np.all(np.isfinite(there))
    spread = float(np.std(here, 0).max())
    return float(np.abs(here - there).max()) / max(spread, 1e-30), spread


def predictor(kind: Any, name: str) -> models.Predictor:
    config = models.PredictorConfig(
        depth=1, embed=8, hidden=8, heads=2, rank=2, carried=3, precision="bfloat16"
    )
    net = NETWORKS[name]
    return random_module(
        lambda: models.Predictor(net.spec, 4, kind, config=config, rngs=nnx.Rngs(0))
    )


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.one_in(3)
def test_predictors(kind: str, name: str) -> None:
    gap, spread = gap_and_spread(predictor(kind, name), name)
    assert spread > 1e-3
    assert gap <= TOLERANCE


def test_control_raw_weights_in_bfloat16_fail() -> None:
    """The same parameters and products, on weights that were rounded as they came."""
    name = "four hidden layers"
    model = predictor("canonical", name)

    def rounded(theta: Any) -> Any:
        low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), theta)
        return layers.widened(low, "bfloat16")

    def without_normal_form(theta: Any) -> Any:
        low = rounded(theta)
        raw = spaces.Canonical(low, dict.fromkeys(_paths(model), jnp.zeros(())))
        found = model.measure(low)
        found["features"] = model.trunk.features(low, raw)
        return model.read(model.standardise(found))

    gap, _ = gap_and_spread(without_normal_form, name)
    assert gap > TOLERANCE


def _paths(model: models.Predictor) -> tuple[str, ...]:
    return spaces.log_norm_paths(model.spec)


def test_control_flat_weights_and_constants_fail() -> None:
    name = "two hidden layers"
    spec = NETWORKS[name].spec
    flat = models.FlatMLP(spec, (8,), precision="bfloat16", rngs=nnx.Rngs(0))
    gap, _ = gap_and_spread(flat, name)
    assert gap > TOLERANCE
    model = predictor("canonical", name)
    kernel = model.head.out
    kernel.set_value(jnp.zeros_like(kernel[...]))
    gap, spread = gap_and_spread(model, name)
    assert gap <= TOLERANCE
    assert not spread > 1e-3


def test_a_classifier() -> None:
    name = "four hidden layers"
    config = models.ClassifierConfig(depth=1, waves=4, hidden=8, precision="bfloat16")
    spec = NETWORKS[name].spec
    model = random_module(
        lambda: models.Classifier(spec, 3, 4, config=config, rngs=nnx.Rngs(0))
    )
    gap, spread = gap_and_spread(model, name)
    assert spread > 1e-3
    assert gap <= TOLERANCE


@pytest.mark.parametrize(
    "kind",
    [
        "strict",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("gauge", "relative")),
        pytest.param("canonical", marks=pytest.mark.slow),
    ],
)
def test_an_editor(kind: Any) -> None:
    """What an edit changes of the function, relative to its spread."""
    name = "two hidden layers"
    config = models.EditorConfig(depth=1, waves=2, eta=0.5, precision="bfloat16")
    net = NETWORKS[name]
    editor = random_module(
        lambda: models.Editor(net.spec, 4, kind, config=config, rngs=nnx.Rngs(0))
    )
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 3)), jnp.float32)

    def change(theta: Any) -> Any:
        y = net.apply(editor(theta), x) - net.apply(theta, x)
        return y.reshape(-1)

    gap, spread = gap_and_spread(change, name)
    assert spread > 1e-3
    assert gap <= TOLERANCE


def test_weights_that_are_kept_in_bfloat16_are_read_in_float32() -> None:
    name = "two hidden layers"
    model = predictor("canonical", name)
    low = jax.tree.map(lambda x: x[0].astype(jnp.bfloat16), networks(name)[0])
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), low)
    run = fast_jit(model)
    np.testing.assert_array_equal(run(low), run(wide))
