"""A network as plain kernels `[h, w, n_in, n_out]`, and what lies between them.

Dense layers have windows of side 1, those behind a flattened map windows of its size.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from qejax._typing import Theta
from qejax.nets._activations import Activation
from qejax.nets._activations import activation as find_activation
from qejax.nets._network import Network, layer_name
from qejax.nets._skip_cnn import SkipCNN
from qejax.spaces import Leaf


class PlainLayer(NamedTuple):
    """What there is to say of a hidden layer but its weights.

    Attributes:
        shape: of its kernel, `(h, w, n_in, n_out)`.
        activation: behind it.
        blocks: `(unit space, start, stop)` of its units, in order.
        source: number of the earlier layer that it adds, -1 for none.
        stride: of its convolution, along the height.
        pad: zeros at each side, along the height.
        pool: side of the pooling behind it.
    """

    shape: tuple[int, ...]
    activation: Activation
    blocks: tuple[tuple[str, int, int], ...]
    source: int = -1
    stride: int = 1
    pad: int = 0
    pool: int = 1


def plain_weights(network: Network, theta: Theta) -> list[tuple[Any, Any]]:
    """Returns kernels `[h, w, n_in, n_out]` and biases of all layers, outputs last.

    Args:
        network: an MLP, a CNN with or without skips, or a coordinate network.
        theta: weights of one network, of NumPy or of JAX.

    Raises:
        ValueError: if the network is none of these.
    """
    shapes = plain_shapes(network)
    plain = network.join(theta) if isinstance(network, SkipCNN) else theta
    rows = [plain[layer_name(number)] for number in range(len(shapes))]
    return [
        (row["kernel"].reshape(shape), row["bias"])
        for row, shape in zip(rows, shapes, strict=True)
    ]


@functools.lru_cache(maxsize=4096)
def plain_shapes(network: Network) -> tuple[tuple[int, ...], ...]:
    """Returns the shapes of the kernels of `plain_weights`.

    Raises:
        ValueError: if the network is no chain of layers.
    """
    if isinstance(network, SkipCNN):
        config: Any = network.config
        channels = (*config.channels, config.num_outputs)
        return tuple(
            (side, side, n_in, n_out)
            for side, n_in, n_out in zip(
                (*config.windows, 1), channels[:-1], channels[1:], strict=True
            )
        )
    if not network.layers:
        raise ValueError(
            f"padded: expected a chain of layers (an MLP, a CNN, a coordinate "
            f"network), got a network of kind {network.config.kind!r}."
        )
    return tuple(_shape(network, layer.leaves[0]) for layer in network.layers)


def plain_layers(network: Network) -> tuple[PlainLayer, ...]:
    """Returns the hidden layers of a network as data.

    Raises:
        ValueError: if the network is no chain of layers.
    """
    shapes = plain_shapes(network)
    if isinstance(network, SkipCNN):
        return _of_skips(network, shapes)
    found: list[PlainLayer] = []
    written: dict[str, int] = {}
    for number, (layer, shape) in enumerate(
        zip(network.layers[:-1], shapes[:-1], strict=True)
    ):
        space, row = str(layer.space), layer.activation
        assert row is not None
        options: dict[str, Any] = getattr(layer.linear, "keywords", {})
        same = options.get("padding", "VALID") == "SAME"
        found.append(
            PlainLayer(
                shape,
                row,
                ((space, 0, shape[3]),),
                written.get(space, -1),
                options.get("strides", (1,))[0],
                shape[0] // 2 if same else 0,
                1 if layer.pool is None else layer.pool.side,
            )
        )
        written[space] = number
    return tuple(found)


def _of_skips(network: SkipCNN, shapes: Any) -> tuple[PlainLayer, ...]:
    config: Any = network.config
    return tuple(
        PlainLayer(
            shapes[number],
            find_activation(config.activation[number]),
            tuple(
                (network.names[block], block.start, block.stop)
                for block in network.blocks[number + 1]
            ),
            config.residual[number],
            config.strides[number],
            config.padding[number],
        )
        for number in range(len(config.activation))
    )


def _shape(network: Network, leaf: Leaf) -> tuple[int, ...]:
    view = leaf.view
    if len(view) == 2:
        return (1, 1, *view)
    return (*_positions(network, leaf), *view[1:]) if len(view) == 3 else view


def _positions(network: Network, leaf: Leaf) -> tuple[int, ...]:
    """Height and width of the map that a dense layer reads flattened."""
    config: Any = network.config
    image = jax.ShapeDtypeStruct((1, *config.image, config.in_channels), np.float32)
    _, units = jax.eval_shape(network.units, network.spec.template(), image)
    return units[str(leaf.axes[1].space)].shape[1:-1]
