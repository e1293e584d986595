"""Convolutional networks: stages, residual blocks, two heads, dense layers."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from qejax import spaces
from qejax._typing import Array
from qejax.nets._activations import activation as find_activation
from qejax.nets._config import CNNConfig
from qejax.nets._network import (
    Layer,
    Network,
    dense_product,
    layer_name,
    space_name,
    unit_space,
)
from qejax.nets._patches import convolve, out_size
from qejax.nets._pool import MaxPool
from qejax.spaces import UnitSpace, WeightSpec, Wire


def cnn(
    in_channels: int,
    channels: Sequence[int],
    windows: Any = 3,
    strides: Any = 1,
    *,
    padding: str | Sequence[str] = "VALID",
    activation: str | Sequence[str] = "relu",
    blocks: int | Sequence[int] = 0,
    head: str = "gap",
    image: Sequence[int] | None = None,
    num_outputs: int = 10,
    pools: int | Sequence[int] = 1,
    hidden: Sequence[int] = (),
) -> Network:
    """Returns a convolutional network for images `[N, height, width, in_channels]`.

    Stage `l` is a convolution, a max pooling, an activation and `blocks[l]` residual
    blocks `sigma(x + conv(sigma(conv(x))))`, whose outer convolutions write the stage's
    unit space and whose inner ones have a space each. Then the head, and dense layers.

    Args:
        in_channels: of the images.
        channels: of each stage.
        windows: sides of the kernels: `k`, or per stage `k` or `(k_height, k_width)`.
        strides: of the stages' first convolutions, likewise.
        padding: "VALID" or "SAME", for all stages or each.
        activation: for all stages and hidden layers, or for each, stages first.
        blocks: number of residual blocks, for all stages or each.
        head: "gap" averages over positions; "flatten" keeps them, units then move in
            blocks.
        image: height and width of the images; needed by "flatten" only.
        num_outputs: of the last dense layer.
        pools: sides of max poolings before the stages' activations, for all or each.
        hidden: widths of dense layers before the last one.

    Returns:
        The network. A stage whose blocks share a space with an activation of a degree
        other than 1 is left with permutations, and so is one whose units have signs or
        turn if they are pooled: the largest of `-x` is not that of `x`.

    Raises:
        ValueError: as `CNNConfig`, and if a map shrinks to nothing.

    Example:
        >>> net = cnn(1, (16, 16, 16), windows=3, strides=2)  # the Small CNN Zoo
        >>> net.spec.num_parameters
        4970
        >>> small = dict(head="flatten", image=(28, 28), pools=(2, 2, 1), hidden=(20,))
        >>> net = cnn(1, (8, 6, 4), (5, 5, 2), **small)  # modelzoos.cc
        >>> net.spec.num_parameters
        2464
    """
    fields: Any = {
        "in_channels": in_channels,
        "channels": channels,
        "windows": windows,
        "strides": strides,
        "padding": padding,
        "activation": activation,
        "blocks": blocks,
        "head": head,
        "image": image,
        "num_outputs": num_outputs,
        "pools": pools,
        "hidden": hidden,
    }
    return build_cnn(CNNConfig(**fields))


def cnn_spec(*args: Any, **kwargs: Any) -> WeightSpec:
    """Returns the spec of `cnn(*args, **kwargs)`."""
    return cnn(*args, **kwargs).spec


def _convolution(strides: tuple[int, int], padding: str) -> Callable[..., Array]:
    return functools.partial(convolve, strides=strides, padding=padding)


def _average_then_dense(x: Array, kernel: Array) -> Array:
    return dense_product(x.mean(axis=tuple(range(1, x.ndim - 1))), kernel)


class _Builder:
    """Collects layers and unit spaces in the order in which they are computed."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.spaces: list[UnitSpace] = []

    def space(self, size: int, activations: list[Any], pools: Any = ()) -> Wire:
        name = space_name(len(self.spaces))
        space, wire = unit_space(name, size, activations, pools=pools)
        self.spaces.append(space)
        return wire

    def conv(
        self,
        window: Any,
        source: Wire,
        out: Wire,
        linear: Any,
        row: Any,
        pool: MaxPool | None = None,
    ) -> None:
        name = layer_name(len(self.layers))
        leaves = spaces.conv(name, window, source, out)
        self.layers.append(Layer(name, leaves, linear, row, out.space, pool))

    def dense(self, source: Wire, out: Wire, linear: Any, row: Any = None) -> None:
        name = layer_name(len(self.layers))
        leaves = spaces.dense(name, source, out)
        self.layers.append(Layer(name, leaves, linear, row, out.space))


def build_cnn(config: CNNConfig) -> Network:
    """Returns the network of a configuration; see `cnn`."""
    net = _Builder()
    wire, positions = Wire(config.in_channels), config.image
    stages: Any = zip(
        config.channels,
        config.windows,
        config.strides,
        config.padding,
        config.activation,
        config.blocks,  # type: ignore[arg-type]
        config.pools,  # type: ignore[arg-type]
        strict=False,
    )
    for channels, window, strides, padding, name, blocks, side in stages:
        row, pool = find_activation(name), MaxPool(side) if side > 1 else None
        pools = () if pool is None else (pool,)
        stream = net.space(channels, [row] * (1 + blocks), pools)
        net.conv(window, wire, stream, _convolution(strides, padding), row, pool)
        for _ in range(blocks):
            inner = net.space(channels, [row])
            same = _convolution((1, 1), "SAME")
            net.conv(window, stream, inner, same, row)
            net.conv(window, inner, stream, same, row)
        wire = stream
        if positions is not None:
            positions = out_size(positions, window, strides, padding)
            positions = positions if pool is None else pool.out_size(positions)
    linear = _average_then_dense
    if config.head == "flatten" and positions is not None:
        wire, linear = replace(wire, blocks=positions[0] * positions[1]), dense_product
    rows = config.activation[len(config.channels) :]
    for width, name in zip(config.hidden, rows, strict=True):
        row = find_activation(name)
        out = net.space(width, [row])
        net.dense(wire, out, linear, row)
        wire, linear = out, dense_product
    net.dense(wire, Wire(config.num_outputs), linear)
    spec = WeightSpec(
        tuple(net.spaces), tuple(leaf for layer in net.layers for leaf in layer.leaves)
    )
    return Network(config, spec, tuple(net.layers))
