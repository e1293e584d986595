"""Predictors as objects: halves, calibration, sizes, errors, inside Linen."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, models, nets
from tests.layer_specs import fast_jit, random_module
from tests.registry import theta_of

NET = nets.mlp((4, 3, 3, 2))
SMALL = models.PredictorConfig(depth=1, embed=4, hidden=4, heads=2, rank=2, carried=2)
FULL = dataclasses.replace(SMALL, probes=4, stream=2, components=3)


def make(quasi: Any = "canonical", config: Any = SMALL, **kw: Any) -> Any:
    options = {"config": config, **kw}
    return random_module(
        lambda: models.Predictor(NET.spec, 3, quasi, **options, rngs=nnx.Rngs(0))
    )


def stack(number: int) -> Any:
    return theta_of(NET.spec, 7, "float32", (number,))


def test_read_of_prepare_is_call() -> None:
    model = make(config=FULL, network=NET)
    theta = theta_of(NET.spec, 0, "float32")
    scores, whole, label = fast_jit(
        lambda t: (model.scores(model.prepare(t)), model(t), model.predict(t))
    )(theta)
    assert scores.shape == (2,)
    np.testing.assert_allclose(scores.mean(), whole, rtol=1e-4)
    assert 0 <= float(label) <= 1


def test_calibrate_compares_training_networks_with_the_others_only() -> None:
    model = make(config=FULL, network=NET)
    thetas, labels = stack(12), np.linspace(0, 1, 12)
    measured = models.measure_all(model, thetas)
    trained = model.calibrate(measured, labels)
    again = models.prepare_all(model, thetas, batch_size=5)
    assert jax.tree.structure(trained) == jax.tree.structure(again)
    # Statistics of the weights agree; only the comparison with templates differs.
    plain = measured["statistics"].shape[1]
    here, there = trained["statistics"], again["statistics"]
    np.testing.assert_allclose(here[:, :plain], there[:, :plain], atol=1e-4)
    assert np.abs(here[:, plain] - there[:, plain]).max() > 1e-2
    # Directions of a sketch leave nobody out: sketches stand in the same order.
    assert len(model.config.sketches) == 4
    width = 1 + model.config.components
    compared = np.arange(plain, here.shape[1])
    directions = compared[(compared - plain) % width != 0]
    np.testing.assert_allclose(here[:, directions], there[:, directions], atol=1e-3)
    # Constants are kept with the model and are no parameters.
    _, params, frozen = nnx.split(model, nnx.Param, ...)
    assert all(isinstance(v, layers.Frozen) for _, v in nnx.to_flat_state(frozen))
    assert models.num_parameters(model) == sum(
        x.size for x in jax.tree.leaves(nnx.to_pure_dict(params))
    )


def test_trunk_reads_unit_size() -> None:
    model = make()
    thetas = stack(12)
    prepared = model.calibrate(models.measure_all(model, thetas), np.arange(12.0))
    for x in jax.tree.leaves(prepared["features"]):
        assert x.size == 0 or 0.5 < float(jnp.sqrt(jnp.mean(x**2))) < 1.1


def test_link_maps_scores_to_labels() -> None:
    model = make()
    scores = np.linspace(-3, 5, 400)
    labels = 1 / (1 + np.exp(-scores / 2)) + 0.05 * np.sin(40 * scores)
    before = float(model.to_label(jnp.asarray(0.0)))
    assert abs(before - 0.5) < 1e-3
    model.calibrate_link(scores, np.clip(labels, 0, 1))
    fitted = np.asarray(model.to_label(jnp.asarray(scores)))
    assert np.all(np.diff(fitted) >= 0)
    assert np.abs(fitted - 1 / (1 + np.exp(-scores / 2))).max() < 0.08
    with pytest.raises(ValueError, match="at least two different scores"):
        model.calibrate_link(np.ones(4), np.ones(4))


def test_statistics_only() -> None:
    model = models.Predictor(NET.spec, 0, "canonical", config=SMALL, rngs=nnx.Rngs(0))
    assert model.trunk is None
    assert fast_jit(model)(theta_of(NET.spec, 0, "float32")).shape == ()
    with pytest.raises(ValueError, match="at least one stream"):
        models.Predictor(NET.spec, 0, "strict", config=SMALL, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("quasi", "num"), [("relative", 3_000), ("canonical", 5_123)])
def test_sizes_for_a_number_of_parameters(quasi: Any, num: int) -> None:
    spec = nets.mlp((4, 3, 2)).spec
    config = models.PredictorConfig(depth=1, embed=8, hidden=8, heads=1)
    channels, config = models.sizes_for(spec, quasi, num, config=config, tolerance=0.01)
    # Channels and the head were both widened.
    assert channels > 4
    assert config.hidden > 8

    def build() -> Any:
        return models.Predictor(spec, channels, quasi, config=config, rngs=nnx.Rngs(0))

    assert abs(models.num_parameters(build) - num) <= 0.01 * num
    channels, config = channels + 1, dataclasses.replace(config, hidden=8)
    assert models.num_parameters(build) > num


@pytest.mark.parametrize(
    ("size", "calls"),
    [
        (lambda n: 40 + 7 * n, 5),
        (lambda n: 3 * n * n + 5, 5),
        (lambda n: 9 * n**3, 20),
        (lambda n: 2**n, 20),
        (lambda n: math.isqrt(10 * n), 50),
        (lambda n: 100 * (n // 17), 30),
    ],
)
@pytest.mark.parametrize("num", [3, 47, 100, 5_000])
def test_largest_number_that_fits(
    size: Callable[[int], int], calls: int, num: int
) -> None:
    from qejax.models import _reports

    seen = set()

    def counted(count: int) -> int:
        seen.add(count)
        return size(count)

    found = _reports._largest(counted, num)
    assert found == 1 or size(found) <= num
    assert size(found + 1) > num
    assert len(seen) <= calls


def test_no_such_size() -> None:
    with pytest.raises(ValueError, match="no number of channels gives 10 parameters"):
        models.sizes_for(NET.spec, "canonical", 10)


@pytest.mark.parametrize(
    ("quasi", "options", "match"),
    [
        ("exact", {}, "Predictor\\(quasi=...\\) should be one of"),
        ("canonical", {"statistics": ("mean",)}, "'mean' is unknown, expected names"),
        ("canonical", {"statistics": ("paths",)}, "'paths' needs the network"),
        ("canonical", {"probes": 3}, "run the network, got network=None"),
        ("canonical", {"dropout": (1.0, 0.0)}, "rates should lie in \\[0, 1\\)"),
    ],
)
def test_choices_that_make_no_sense(
    quasi: Any, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        make(quasi, models.PredictorConfig(**options))


@pytest.mark.parametrize(("quasi", "channels"), [("relative", 3), ("canonical", 0)])
def test_a_stream_that_nobody_reads_is_refused(quasi: Any, channels: int) -> None:
    message = f"passing reads activations of units, got quasi='{quasi}' with {channels}"
    with pytest.raises(ValueError, match=message):
        models.Predictor(
            NET.spec, channels, quasi, network=NET, config=FULL, rngs=nnx.Rngs(0)
        )


def test_probes_are_asked_for() -> None:
    config = models.PredictorConfig(sketches=("logits",))
    with pytest.raises(ValueError, match="'logits' runs the network on probes"):
        make("canonical", config, network=NET)


def test_flat_mlp_learns_nothing_of_symmetry_but_has_the_same_halves() -> None:
    model = models.FlatMLP(NET.spec, (8,), rngs=nnx.Rngs(0))
    thetas = stack(6)
    prepared = model.calibrate(jax.vmap(model.measure)(thetas), np.arange(6.0))
    np.testing.assert_allclose(
        jax.vmap(model.read)(prepared), jax.vmap(model)(thetas), rtol=1e-5
    )
    assert np.abs(np.asarray(prepared["flat"]).mean(0)).max() < 1e-5
    key = jax.random.key(0)
    one = jax.tree.map(lambda x: x[0], prepared)
    assert float(model.read(one, key)) != float(model.read(one))
