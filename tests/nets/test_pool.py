"""Max poolings and hidden dense layers of a CNN, against plain operations of JAX."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qejax import models, nets
from tests.registry import gap, theta_of

SMALL: dict[str, Any] = {
    "channels": (8, 6, 4),
    "windows": (5, 5, 2),
    "head": "flatten",
    "image": (28, 28),
    "pools": (2, 2, 1),
    "hidden": (20,),
}
"""The small CNN of modelzoos.cc."""


def test_small_cnn_is_the_formula() -> None:
    net = nets.cnn(1, **SMALL, activation="gelu_erf")
    assert net.spec.num_parameters == 2464
    theta = theta_of(net.spec, 0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 28, 28, 1)))

    def act(x: Any) -> Any:
        return 0.5 * x * (1 + lax.erf(x / np.sqrt(2)))

    def conv(x: Any, name: str, side: int) -> Any:
        w, b = theta[name]["kernel"], theta[name]["bias"]
        y = lax.conv_general_dilated(
            x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = y + b.reshape(1, 1, 1, -1)
        box = (1, side, side, 1)
        return act(lax.reduce_window(y, -jnp.inf, lax.max, box, box, "VALID"))

    @jax.jit
    def plain(x: Any) -> Any:
        y = conv(conv(conv(x, "layer_00", 2), "layer_01", 2), "layer_02", 1)
        y = y.reshape(3, -1)
        for name, last in (("layer_03", False), ("layer_04", True)):
            y = y @ theta[name]["kernel"] + theta[name]["bias"].reshape(1, -1)
            y = y if last else act(y)
        return y

    assert gap(jax.jit(net.apply)(theta, x), plain(x)) < 1e-12


def test_a_pool_keeps_what_it_commutes_with() -> None:
    names = ("relu", "relu^2", "tanh", "sine(1)", "gaussian(1)", "gelu")
    net = nets.cnn(1, (2,) * 6, 1, pools=2, activation=names)
    groups = [space.group for space in net.spec.spaces]
    assert groups == ["positive_scale"] * 2 + ["permutation"] * 4
    plain = nets.cnn(1, (2,) * 6, 1, activation=names)
    assert [space.group for space in plain.spec.spaces][2:5] != ["permutation"] * 3
    assert not any(axis.turn for leaf in net.spec.leaves for axis in leaf.axes)


def test_old_configurations_are_written_as_before() -> None:
    plain = nets.CNNConfig(1, (3, 4)).to_dict()
    assert list(plain) == [
        "kind",
        "in_channels",
        "channels",
        "windows",
        "strides",
        "padding",
        "activation",
        "blocks",
        "head",
        "image",
        "num_outputs",
    ]
    for config in (
        nets.CNNConfig(1, (3, 4)),
        nets.CNNConfig(1, **SMALL),
        nets.CNNConfig(1, (3, 4), pools=(2, 1)),
        nets.CNNConfig(1, (3, 4), hidden=(5,), activation=("relu", "tanh", "erf")),
        nets.SkipCNNConfig((3, 4, 5), residual=(-1, 0)),
    ):
        written = json.loads(json.dumps(config.to_dict()))
        assert nets.config_from_dict(written) == config


def test_paths_of_a_pooled_network() -> None:
    """A mean takes the place of the pool: linear, and of the same shapes."""
    net = nets.cnn(1, (2, 3), 3, pools=(2, 1), hidden=(4,), num_outputs=2)
    theta = theta_of(net.spec, 0)
    shape = models.receptive_field(net, (12, 12, 1))
    assert shape == (8, 8, 1)
    paths = models.path_sums(net, theta, shape)
    # One position of the map that is averaged: the outputs' paths by hand.
    last = theta["layer_02"]["kernel"] @ theta["layer_03"]["kernel"]
    filters = paths.units["hidden_1"].reshape(3, -1)
    assert gap(paths.outputs.reshape(2, -1), last.T @ filters) < 1e-12


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pools": 0}, "cnn pools: sizes should be integers of at least 1"),
        ({"pools": (2, 2)}, "cnn pools: expected one entry for all or one for each"),
        ({"hidden": (0,)}, "cnn hidden: sizes should be integers of at least 1"),
        ({"hidden": (4,), "activation": ("relu",)}, "cnn activation: expected one"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.CNNConfig(1, (3,), **fields)


def test_a_map_smaller_than_a_pool_is_named() -> None:
    with pytest.raises(ValueError, match="expected a map at least as large"):
        nets.cnn(1, (3,), 3, pools=4, head="flatten", image=(5, 5))
