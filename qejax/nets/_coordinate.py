"""Coordinate networks: implicit neural representations of signals.

Source: Sitzmann et al. 2020, arXiv:2006.09661 (sine networks and their start); Tancik
et al. 2020, arXiv:2006.10739 (positional encoding).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax import _trees
from qejax._typing import Array, Float, PRNGKeyArray, Theta
from qejax.nets._config import MLPConfig
from qejax.nets._coordinate_config import CoordinateConfig
from qejax.nets._mlp import build_mlp
from qejax.nets._network import After, Network


class Coordinate(Network):
    """A coordinate network as pure functions; see `coordinate`."""

    config: CoordinateConfig

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns random weights, as signals are fitted from.

        Kernels are uniform in `+-sqrt(3 gain / fan_in)`, which is
        `+-sqrt(6 / fan_in) / w0` around sines; those that read bare coordinates in
        `+-1 / fan_in`. Biases as the configuration says.

        Args:
            key: consumed.
            dtype: of the weights.

        Source:
            Sitzmann et al. 2020, arXiv:2006.09661, section 3.2.
        """
        gains = [layer.activation.gain for layer in self.layers if layer.activation]
        # Outputs start like the units that they read.
        gains.append(gains[-1] if gains else 1)
        fans = [layer.leaves[0].stored[0] for layer in self.layers]
        bounds = [math.sqrt(3 * g / n) for g, n in zip(gains, fans, strict=True)]
        if not self.config.octaves:
            bounds[0] = 1 / fans[0]
        spread = float(self.config.biases == "uniform")
        leaves: dict[str, Array] = {}
        for layer, bound, fan_in in zip(self.layers, bounds, fans, strict=True):
            reach = (bound, spread / math.sqrt(fan_in))
            for leaf, size in zip(layer.leaves, reach, strict=True):
                own = jax.random.fold_in(key, len(leaves))
                draw = jax.random.uniform(own, leaf.stored, dtype, -1, 1)
                leaves[leaf.path] = size * draw
        return _trees.nest(leaves)

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns the values at coordinates; `after` is applied to hidden units.

        Args:
            theta: weights of one network.
            x: `[N, n_0]`, coordinates.
            after: `(layer, units) -> units`.

        Returns:
            `[N, n_L]`.

        Raises:
            ValueError: if `theta` does not fit the spec, or the coordinates.
        """
        wants = self.config.widths[0]
        if x.ndim != 2 or x.shape[1] != wants:
            raise ValueError(
                f"coordinate network: expected coordinates [N, {wants}], got "
                f"{tuple(x.shape)}. Make them with qejax.nets.grid."
            )
        return super().run(theta, octaves(x, self.config.octaves), after) + (
            self.config.offset
        )


def octaves(x: Float[Array, "N n"], number: int) -> Float[Array, "N m"]:
    """Returns coordinates, then sines and cosines of `pi 2^i x` for `i < number`.

    `m = n (1 + 2 number)`.

    Source: Mildenhall et al. 2020, arXiv:2003.08934, equation 4, coordinates kept.

    Example:
        >>> octaves(jnp.zeros((5, 2)), 3).shape
        (5, 14)
    """
    rates = [math.pi * 2**i for i in range(number)]
    waves = [wave(rate * x) for rate in rates for wave in (jnp.sin, jnp.cos)]
    return jnp.concatenate([x, *waves], -1)


def grid(*shape: int) -> Float[Array, "N n"]:
    """Returns the coordinates of a signal, `[prod(shape), len(shape)]` in [-1, 1].

    In the order of `signal.reshape(-1, channels)`: the last axis is fastest.

    Example:
        >>> grid(28, 28).shape
        (784, 2)
    """
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in shape]
    mesh = np.meshgrid(*axes, indexing="ij")
    return jnp.asarray(np.stack([axis.reshape(-1) for axis in mesh], -1))


def coordinate(
    widths: Sequence[int], activation: str | Sequence[str] = "sine(30)", **fields: Any
) -> Network:
    """Returns a coordinate network: a signal as a function of its coordinates.

    Args:
        widths: `(n_0, ..., n_L)`: coordinates, hidden layers, values.
        activation: for all hidden layers, or one for each; `sine(30)` makes a SIREN,
            "relu" wants `octaves`.
        **fields: of `CoordinateConfig`.

    Returns:
        The network, `theta = {"layer_00": {"kernel", "bias"}, ...}`.

    Raises:
        ValueError: as `CoordinateConfig`.

    Example:
        >>> net = coordinate((2, 32, 32, 1))
        >>> theta = net.init(jax.random.key(0))
        >>> net.apply(theta, grid(28, 28)).reshape(28, 28).shape
        (28, 28)
    """
    names: Any = activation
    return build_coordinate(CoordinateConfig(tuple(widths), names, **fields))


def build_coordinate(config: CoordinateConfig) -> Network:
    """Returns the network of a configuration; see `coordinate`."""
    widths = (config.features, *config.widths[1:])
    plain = build_mlp(MLPConfig(widths, config.activation))
    return Coordinate(config, plain.spec, plain.layers)
