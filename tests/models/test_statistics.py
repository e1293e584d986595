"""Statistics against brute force, and the constants that are fitted to them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets, spaces
from tests.layer_specs import fast_jit
from tests.registry import element_of, gap, theta_of

MLP = nets.mlp((4, 3, 2))
CNN = nets.cnn(1, (3, 4), 3, 2, num_outputs=3)


def test_raw_statistics_by_numpy() -> None:
    theta = theta_of(MLP.spec, 0)
    kernel = np.asarray(theta["layer_00"]["kernel"])
    expected = [
        kernel.mean(),
        kernel.var(),
        *np.quantile(kernel, [0, 0.25, 0.5, 0.75, 1]),
    ]
    np.testing.assert_allclose(
        models.raw_statistics(MLP.spec, theta)[:7], expected, rtol=1e-12
    )


def test_path_sums_of_an_mlp_are_products() -> None:
    theta = theta_of(MLP.spec, 0)
    first, last = theta["layer_00"], theta["layer_01"]
    for transform in (lambda x: x, jnp.abs, jnp.square):
        read = fast_jit(lambda t, f=transform: models.path_sums(MLP, t, (4,), f))
        paths = read(theta)
        product = transform(first["kernel"]) @ transform(last["kernel"])
        np.testing.assert_allclose(paths.outputs, product.T, rtol=1e-12)
        np.testing.assert_allclose(
            paths.units["hidden_0"], transform(first["kernel"]).T, rtol=1e-12
        )
        bias = transform(first["bias"]) @ transform(last["kernel"])
        np.testing.assert_allclose(paths.bias, bias, rtol=1e-12)


def test_path_sums_of_a_convolutional_network_by_composition() -> None:
    shape = models.receptive_field(CNN, (32, 32, 1))
    assert shape == (7, 7, 1)
    theta = theta_of(CNN.spec, 0)
    one, two, head = (np.asarray(theta[f"layer_0{i}"]["kernel"]) for i in range(3))
    composed = np.zeros((7, 7, 4))
    for a in range(3):
        for b in range(3):
            composed[2 * a : 2 * a + 3, 2 * b : 2 * b + 3] += one[:, :, 0] @ two[a, b]
    paths = fast_jit(lambda t: models.path_sums(CNN, t, shape))(theta)
    np.testing.assert_allclose(
        paths.outputs[..., 0], np.moveaxis(composed @ head, -1, 0), rtol=1e-10
    )


@pytest.mark.parametrize("net", [MLP, CNN], ids=["mlp", "cnn"])
def test_weight_statistics_are_invariant_and_raw_ones_are_not(net: Any) -> None:
    theta, g = theta_of(net.spec, 0), element_of(net.spec, 0)
    moved = spaces.act(net.spec, g, theta)
    shape = models.receptive_field(net, models.input_shape(net, (8, 8)))

    def read(theta: Any) -> Any:
        return jnp.concatenate(
            [
                models.canonical_statistics(net.spec, theta),
                models.path_statistics(net, theta, shape),
            ]
        )

    run = fast_jit(read)
    assert gap(run(moved), run(theta)) <= 1e-10
    assert gap(run(theta_of(net.spec, 1)), run(theta)) > 1e-2
    raw = [models.raw_statistics(net.spec, t) for t in (moved, theta)]
    assert gap(*raw) > 1


def test_sketches_of_decayed_networks_keep_unit_norm() -> None:
    model = models.Predictor(
        CNN.spec,
        0,
        network=CNN,
        config=models.PredictorConfig(shape=(8, 8, 1)),
        rngs=nnx.Rngs(0),
    )
    theta = theta_of(CNN.spec, 0, "float32")
    for layer in theta.values():
        layer["kernel"] = layer["kernel"] * 1e-9
    filters = fast_jit(model.measure)(theta)["sketches"]["filters"]
    assert abs(float(jnp.linalg.norm(filters)) - 1) < 1e-5


def test_output_statistics_forget_the_order_of_outputs() -> None:
    outputs = jax.random.normal(jax.random.key(0), (9, 4), jnp.float64)
    read = fast_jit(models.output_statistics)
    plain = read(outputs)
    np.testing.assert_allclose(read(outputs[:, ::-1]), plain, rtol=1e-8)
    assert gap(read(2 * outputs), plain) > 1e-2
    same = fast_jit(models.sensitivity_statistics)(outputs, outputs)
    assert float(same[-1]) == 1


def test_probe_statistics_run_the_network() -> None:
    images = models.smooth_images(jax.random.key(0), (4,), 6)
    theta = theta_of(MLP.spec, 0, "float32")
    got, want = fast_jit(
        lambda theta: (
            models.probe_statistics(MLP, theta, images),
            models.output_statistics(MLP.apply(theta, images)),
        )
    )(theta)
    np.testing.assert_array_equal(got, want)


def test_map_networks_in_batches() -> None:
    thetas = theta_of(MLP.spec, 0, batch=(7,))
    whole = jax.vmap(lambda t: models.raw_statistics(MLP.spec, t))(thetas)
    parts = models.map_networks(
        lambda t: models.raw_statistics(MLP.spec, t), thetas, batch_size=3
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_normal_scores() -> None:
    draw = np.random.default_rng(0)
    skewed = np.exp(draw.normal(size=(500, 1)))
    ties = np.concatenate([np.zeros((400, 1)), draw.normal(size=(100, 1))])
    constant = np.full((500, 1), 3.0)
    scores = models.fit_scores(np.concatenate([skewed, ties, constant], 1))
    assert np.all(np.diff(scores.knots, axis=0) > 0)
    from qejax.models import _calibration

    run = jax.vmap(lambda x: _calibration.apply_scores(scores, x))
    values = np.concatenate([skewed, ties, constant], 1)
    mapped = np.asarray(run(jnp.asarray(values)))
    assert abs(mapped[:, 0].std() - 1) < 0.1
    assert np.all(mapped[:, 2] == 0)
    # Rounding stays rounding, at ties as well.
    nearby = np.asarray(run(jnp.asarray(values + 1e-12)))
    assert np.abs(nearby - mapped).max() < 1e-8
    assert np.all(np.isfinite(run(jnp.full((1, 3), jnp.nan))))


def test_template_leaves_a_network_out_of_its_own_comparison() -> None:
    draw = np.random.default_rng(0)
    sketches, labels = draw.normal(size=(30, 400)), draw.uniform(size=30)
    _, read = models.fit_template(sketches, labels, 4)
    assert read.shape == (30, 5)
    # Unrelated sketches say nothing of the labels, though the template holds them.
    assert abs(np.corrcoef(read[:, 0], labels)[0, 1]) < 0.4
    template, _ = models.fit_template(sketches, labels, 4)
    inside = sketches @ np.asarray(template.good)
    assert np.corrcoef(inside, labels)[0, 1] > 0.7
    np.testing.assert_allclose(
        template.directions.T @ template.directions, np.eye(4), atol=1e-5
    )
