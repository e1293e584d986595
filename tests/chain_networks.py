"""Networks that are chains of layers, of every kind that there is, and their orbits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax import nets, spaces
from tests.registry import element_of, theta_of

NETS: dict[str, nets.Network] = {
    "mlp, one layer": nets.mlp((4, 5, 3)),
    "mlp, mixed": nets.mlp((4, 6, 3, 5, 2), ("relu", "tanh", "relu^2")),
    "mlp, residual": nets.mlp((3, 5, 5, 5, 2), residual=True),
    "mlp, gaussian and power": nets.mlp((4, 5, 4, 3), ("gaussian(2)", "relu^3")),
    "coordinates, sine": nets.coordinate((2, 5, 6, 1), "sine(2)"),
    "coordinates, octaves": nets.coordinate((2, 5, 4, 3), "tanh", octaves=0),
    "cnn, strided": nets.cnn(1, (4, 6, 5), 3, 2, num_outputs=3),
    "cnn, even windows": nets.cnn(2, (4, 3), ((2, 3), 4), activation="tanh"),
    "cnn, flatten, pools, hidden": nets.cnn(
        1,
        (3, 4),
        (5, 2),
        pools=(2, 1),
        activation=("relu", "leaky_relu", "gelu_erf"),
        head="flatten",
        image=(10, 9),
        hidden=(5,),
        num_outputs=3,
    ),
    "cnn, flatten": nets.cnn(1, (3,), 3, head="flatten", image=(5, 5), num_outputs=2),
    "residual cnn": nets.cnn(1, (4, 3), blocks=(1, 1), num_outputs=2),
    "residual cnn, tanh": nets.cnn(3, (4,), blocks=2, activation="tanh"),
    "skips, relu and tanh": nets.skip_cnn(
        (3, 4, 6, 3, 5, 7),
        (3, 1, 5, 3, 3),
        residual=(-1, -1, 0, 1, 2),
        activation=("relu", "tanh", "relu", "tanh", "leaky_relu"),
    ),
    "skips, mixed": nets.skip_cnn(
        (3, 5, 4, 3), residual=(-1, -1, 0), activation=("relu", "sigmoid", "gelu_erf")
    ),
}


@functools.cache
def thetas(seed: int = 0) -> dict[str, Any]:
    return {
        name: jax.tree.map(np.asarray, theta_of(net.spec, seed))
        for name, net in NETS.items()
    }


def moved(seed: int, spread: float = 1e4) -> dict[str, Any]:
    found = {}
    for name, net in NETS.items():
        g = element_of(net.spec, seed, spread)
        theta = spaces.act(net.spec, g, jax.tree.map(jnp.asarray, thetas()[name]))
        found[name] = jax.tree.map(np.asarray, theta)
    return found
