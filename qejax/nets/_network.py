"""An input network: its spec, its weights at the start, and the function it is.

A network is a sequence of `Layer`s, each a linear map and an activation. A layer that
writes a unit space for the first time makes its units; one that writes a space again
adds to them before its activation. That is all there is to residual networks: the
layers of a stream write one unit space, so one group element moves them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
from jax.typing import DTypeLike

from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.nets._activations import Activation
from qejax.nets._config import NetConfig
from qejax.nets._pool import MaxPool
from qejax.spaces import Leaf, UnitSpace, WeightSpec, Wire, check_theta


@dataclass(frozen=True)
class Layer:
    """One linear map with bias, and what follows it.

    Attributes:
        name: key of its weights in `theta`: `{"kernel", "bias"}`.
        leaves: of the spec.
        linear: `(x, kernel) -> y`; the bias comes on top.
        activation: `None` for outputs.
        space: the unit space that it writes, `None` for outputs.
        pool: between the linear map and the activation, `None` for nothing.
    """

    name: str
    leaves: tuple[Leaf, ...]
    linear: Callable[[Array, Array], Array]
    activation: Activation | None = None
    space: str | None = None
    pool: MaxPool | None = None


After = Callable[[Layer, Array], Array]
"""What happens to the units of a layer before the next one reads them."""


@dataclass(frozen=True)
class Network:
    """An architecture as pure functions; two with equal configurations are equal.

    Hashable, so a network can be a static argument of `jax.jit`. No batch axis over
    networks anywhere: use `jax.vmap` over stacked thetas.

    Attributes:
        config: what it was built from; `nets.build(config)` builds it again.
        spec: of its weights.
        layers: in the order in which they are applied.
    """

    config: NetConfig
    spec: WeightSpec = field(compare=False, repr=False)
    layers: tuple[Layer, ...] = field(compare=False, repr=False)

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns random weights and zero biases.

        Kernels are normal with variance `gain / fan_in`, the gain that of the layer's
        activation: 2 for the ReLU family, 1 elsewhere.

        Args:
            key: consumed.
            dtype: of the weights.

        Returns:
            `{"layer_00": {"bias", "kernel"}, ...}`.

        Source:
            He et al. 2015, arXiv:1502.01852, equation 10.
        """
        theta: dict[str, dict[str, Array]] = {}
        for number, layer in enumerate(self.layers):
            shape, bias = (leaf.stored for leaf in layer.leaves)
            gain = layer.activation.gain if layer.activation else 1
            std = math.sqrt(gain / math.prod(shape[:-1]))
            draw = jax.random.normal(jax.random.fold_in(key, number), shape, dtype)
            theta[layer.name] = {
                "kernel": std * draw,
                "bias": jax.numpy.zeros(bias, dtype),
            }
        return theta

    def apply(self, theta: Theta, x: Array) -> Array:
        """Returns the outputs `[N, n_L]` for inputs `[N, ...]`.

        Raises:
            ValueError: if `theta` does not fit the spec, or the inputs the first layer.

        Example:
            >>> import jax.numpy as jnp
            >>> from qejax import nets
            >>> net = nets.mlp((64, 10))
            >>> theta = net.init(jax.random.key(0))
            >>> net.apply(theta, jnp.ones((5, 8, 8))).shape
            (5, 10)
        """
        return self.units(theta, x)[0]

    def units(self, theta: Theta, x: Array) -> tuple[Array, dict[str, Array]]:
        """Returns the outputs, and the activations of every unit space.

        Activations are taken after the activation function, so that under
        `act(spec, g, theta)` unit `i` of the result is unit `g.perm[i]` times
        `g.scale[i] ** degree`, the degree that of the activation. A space that
        several layers write (a residual stream) returns the last of them.

        Args:
            theta: weights of one network.
            x: `[N, ...]`, inputs; a dense layer flattens what it reads.

        Returns:
            The outputs `[N, n_L]` and `{space: [N, ..., n_s]}`, with the positions of
            a feature map between.

        Raises:
            ValueError: if `theta` does not fit the spec, or the inputs the first layer.
        """
        units: dict[str, Array] = {}

        def keep(layer: Layer, x: Array) -> Array:
            units[str(layer.space)] = x
            return x

        return self.run(theta, x, keep), units

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns the outputs, with `after` applied to the units of every layer.

        For what happens between layers in training only, such as dropout.

        Args:
            theta: weights of one network.
            x: `[N, ...]`, inputs.
            after: `(layer, units) -> units`, called once for each layer with an
                activation, in order; the network goes on with what it returns.

        Returns:
            The outputs `[N, n_L]`.

        Raises:
            ValueError: if `theta` does not fit the spec, or the inputs the first layer.
        """
        check_theta(self.spec, theta)
        streams: dict[str, Array] = {}
        for layer in self.layers:
            weights = theta[layer.name]
            x = layer.linear(x, weights["kernel"])
            x = x + _row(weights["bias"], x.ndim)
            x = x if layer.pool is None else layer.pool(x)
            if layer.space is None or layer.activation is None:
                continue
            if layer.space in streams:
                x = x + streams[layer.space]
            x = streams[layer.space] = after(layer, layer.activation.function(x))
        return x


def _row(bias: Array, ndim: int) -> Array:
    return bias.reshape((1,) * (ndim - 1) + (-1,))


def layer_name(number: int) -> str:
    """The key of layer `number` in `theta`; JAX sorts keys as strings."""
    return f"layer_{number:02d}"


def space_name(number: int) -> str:
    """The name of the unit space that is the `number`-th to be computed."""
    return f"hidden_{number}"


def dense_product(x: Array, kernel: Array) -> Array:
    """Returns `flatten(x) @ kernel`, the last axis of `x` fastest.

    Raises:
        ValueError: if `x` does not have as many features as the kernel reads.
    """
    features = math.prod(x.shape[1:])
    if features != kernel.shape[0]:
        raise ValueError(
            f"dense layer with a kernel {tuple(kernel.shape)}: expected inputs with "
            f"{kernel.shape[0]} features, got {features} (shape {tuple(x.shape)}, the "
            f"first axis runs over data points)."
        )
    return x.reshape(x.shape[0], features) @ kernel


def unit_space(
    name: str,
    size: int,
    activations: Sequence[Activation],
    turns: bool = True,
    pools: Sequence[MaxPool] = (),
) -> tuple[UnitSpace, Wire]:
    """Returns the unit space that layers with these activations write, and its wire.

    One layer: the group of its activation. Several (a residual stream, whose sum
    mixes units before and after an activation): the group that all of them share if
    it acts with degree 1, otherwise permutations.

    Args:
        name: of the unit space.
        size: number of units.
        activations: of the layers that write it.
        turns: whether they may turn: one layer with a bias that nothing gates.
        pools: what lies between the layers and their activations.
    """
    last = activations[-1]
    turns = turns and len(activations) == 1 and not pools
    groups = {row.group if turns else row.still for row in activations}
    groups |= {pool.group for pool in pools}
    group, degree = groups.pop(), last.degree
    if groups or (len(activations) > 1 and any(row.degree != 1 for row in activations)):
        group, degree = "permutation", 1
    wire = Wire(size, name, degree, turn=last.turn if turns else 0.0)
    return UnitSpace(name, size, group), wire
