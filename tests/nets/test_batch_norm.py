"""A folded layer is the layer and its batch normalisation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets


def _norm(size: int) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(3), 4)
    norm = {
        name: jax.random.normal(key, (size,))
        for name, key in zip(("mean", "scale", "bias", "var"), keys, strict=True)
    }
    return norm | {"var": jnp.exp(norm["var"])}


def _apply_norm(y: jax.Array, norm: dict[str, jax.Array], epsilon: float) -> jax.Array:
    row = {k: v.reshape((1,) * (y.ndim - 1) + (-1,)) for k, v in norm.items()}
    y = (y - row["mean"]) / jnp.sqrt(row["var"] + epsilon)
    return y * row.get("scale", jnp.ones_like(row["mean"])) + row.get(
        "bias", jnp.zeros_like(row["mean"])
    )


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_folding_into_a_dense_layer(affine: bool, biased: bool) -> None:
    key = jax.random.key(0)
    layer = {"kernel": jax.random.normal(key, (5, 4))}
    bias = jax.random.normal(key, (4,)) if biased else jnp.zeros(4)
    if biased:
        layer["bias"] = bias
    norm = _norm(4)
    if not affine:
        norm = {name: norm[name] for name in ("mean", "var")}
    x = jax.random.normal(jax.random.key(1), (6, 5))
    folded = nets.fold_batch_norm(layer, norm, epsilon=1e-3)
    expected = _apply_norm(x @ layer["kernel"] + bias[None], norm, 1e-3)
    got = x @ folded["kernel"] + folded["bias"][None]
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    assert float(jnp.max(jnp.abs(got - x @ layer["kernel"]))) > 1e-2


def test_folding_into_a_network() -> None:
    net = nets.cnn(1, (3, 4), 3, 2)
    rng = np.random.default_rng(0)
    theta = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)),
        net.spec.template(jnp.float64),
    )
    norm = _norm(3)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 1)))

    def conv(x: jax.Array, layer: dict[str, jax.Array]) -> jax.Array:
        y = nets.convolve(x, layer["kernel"], (2, 2), "VALID")
        return y + layer["bias"].reshape(1, 1, 1, -1)

    @jax.jit
    def both(theta: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = _apply_norm(conv(x, theta["layer_00"]), norm, 1e-5)
        second = conv(jax.nn.relu(first), theta["layer_01"])
        head = theta["layer_02"]
        h = jax.nn.relu(second).mean((1, 2)) @ head["kernel"] + head["bias"][None]
        folded = nets.fold_batch_norm(theta["layer_00"], norm)
        return h, net.apply(theta | {"layer_00": folded}, x)

    expected, got = both(theta, x)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_dtype_is_the_kernel_s() -> None:
    layer = {"kernel": jnp.ones((3, 2), jnp.float32)}
    norm = {"mean": jnp.zeros(2, jnp.float32), "var": jnp.ones(2, jnp.float32)}
    folded = nets.fold_batch_norm(layer, norm)
    assert {leaf.dtype for leaf in folded.values()} == {jnp.dtype("float32")}


def test_wrong_sizes_are_named() -> None:
    layer = {"kernel": jnp.ones((3, 2))}
    with pytest.raises(
        ValueError, match="norm var should have one entry for each of 2"
    ):
        nets.fold_batch_norm(layer, {"mean": jnp.zeros(2), "var": jnp.ones(3)})


def test_missing_entries_and_negative_variances_are_named() -> None:
    layer, zero = {"kernel": jnp.ones((3, 2))}, jnp.zeros(2)
    with pytest.raises(ValueError, match=r"norm should have .* without \['var'\]"):
        nets.fold_batch_norm(layer, {"mean": zero})
    with pytest.raises(ValueError, match=r"layer should have .* without \['kernel'\]"):
        nets.fold_batch_norm({}, {"mean": zero, "var": zero})
    for var in (jnp.array([1.0, -0.5]), jnp.array([1.0, jnp.nan])):
        with pytest.raises(ValueError, match=r"should be positive, got 1 of 2 .* at 1"):
            nets.fold_batch_norm(layer, {"mean": zero, "var": var})
    with pytest.raises(
        ValueError, match=r"norm var plus epsilon=0\.0 should be positive"
    ):
        nets.fold_batch_norm(layer, {"mean": zero, "var": zero}, epsilon=0.0)
