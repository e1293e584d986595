import jax
import numpy as np
import pytest

from experiments.predict_accuracy.moved import element, move_zoo
from qejax import nets

NETS = [nets.mlp((3, 5, 4, 2), activation=name) for name in ("relu", "tanh")]


@pytest.mark.parametrize("network", NETS, ids=["relu", "tanh"])
@pytest.mark.parametrize("permute", [False, True])
def test_moved_networks_compute_the_same_functions(network, permute):
    keys = jax.random.split(jax.random.key(0), 6)
    thetas = jax.vmap(lambda k: network.init(k, "float64"))(keys)
    moved = move_zoo(jax.random.key(1), network.spec, thetas, 1e4, permute)
    x = jax.random.normal(jax.random.key(2), (7, 3))
    apply = jax.vmap(network.apply, in_axes=(0, None))
    np.testing.assert_allclose(apply(moved, x), apply(thetas, x), rtol=1e-10)
    # Control: the weights did move, each network by an element of its own.
    ratio = moved["layer_00"]["kernel"] / thetas["layer_00"]["kernel"]
    assert np.ptp(np.asarray(ratio), axis=0).min() > 0.5


@pytest.mark.parametrize("network", NETS, ids=["relu", "tanh"])
def test_a_scale_of_one_moves_nothing(network):
    g = element(jax.random.key(0), network.spec, 1.0, permute=False)
    for space in network.spec.spaces:
        np.testing.assert_array_equal(g[space.name].perm, np.arange(space.size))
        np.testing.assert_array_equal(g[space.name].scale, np.ones(space.size))


def test_shifts_are_as_large_as_what_they_are_added_to():
    network = nets.transformer(
        4, 1, 2, 5, image=(4, 4, 1), patch=2, affine=False, position="none"
    )
    theta = network.init(jax.random.key(0), "float64")
    small = jax.tree.map(lambda x: 1e-3 * x, theta)
    kernels = []
    for weights in (theta, small):
        thetas = jax.tree.map(lambda x: x[None], weights)
        moved = move_zoo(jax.random.key(1), network.spec, thetas, 10.0, False)
        x = jax.random.normal(jax.random.key(2), (7, 4, 4, 1))
        apply = jax.vmap(network.apply, in_axes=(0, None))
        np.testing.assert_allclose(apply(moved, x), apply(thetas, x), rtol=1e-9)
        kernels.append(moved["block_00"]["mlp"]["down"]["kernel"][0])
    means = np.mean(kernels[0], 1), np.mean(kernels[1], 1)
    np.testing.assert_allclose(means[1], 1e-3 * means[0], rtol=1e-9)
    unmoved = np.mean(theta["block_00"]["mlp"]["down"]["kernel"], 1)
    assert np.abs(means[0] - unmoved).min() > 1e-3


def test_scales_are_uniform_up_to_the_top():
    spec = nets.mlp_spec((3, 2000, 2), activation="relu")
    scale = np.asarray(element(jax.random.key(0), spec, 100.0, False)["hidden_0"].scale)
    assert (scale.min() >= 1, scale.max() <= 100) == (True, True)
    assert scale.mean() == pytest.approx(50.5, abs=2)
