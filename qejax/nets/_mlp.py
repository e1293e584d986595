"""Multilayer perceptrons of any depth and width, with or without residual adds."""

from collections.abc import Sequence
from typing import Any

from qejax import spaces
from qejax.nets._activations import activation as find_activation
from qejax.nets._config import MLPConfig
from qejax.nets._network import (
    Layer,
    Network,
    dense_product,
    layer_name,
    space_name,
    unit_space,
)
from qejax.spaces import WeightSpec, Wire


def mlp(
    widths: Sequence[int],
    activation: str | Sequence[str] = "relu",
    residual: bool = False,
) -> Network:
    """Returns a multilayer perceptron.

    Inputs of any shape `[N, ...]` with `n_0` features are flattened. Hidden layers
    write the unit spaces `hidden_0, hidden_1, ...`; with `residual` a hidden layer as
    wide as the hidden layer before it computes `sigma(x + dense(x))` and writes the
    same space. A shared space keeps scales or signs only if every activation in it
    has the same group and degree 1; otherwise it is left with permutations.

    Args:
        widths: `(n_0, ..., n_L)`, inputs and outputs included; integers of any kind.
        activation: for all hidden layers, or one for each of them.
        residual: whether hidden layers of equal width add what they read.

    Returns:
        The network, with `theta = {"layer_00": {"kernel", "bias"}, ...}`.

    Raises:
        ValueError: as `MLPConfig`.

    Example:
        >>> net = mlp((64, 32, 32, 10), activation=("relu", "tanh"))
        >>> [(space.name, space.group) for space in net.spec.spaces]
        [('hidden_0', 'positive_scale'), ('hidden_1', 'sign')]
    """
    fields: Any = (widths, activation, residual)
    return build_mlp(MLPConfig(*fields))


def mlp_spec(
    widths: Sequence[int],
    activation: str | Sequence[str] = "relu",
    residual: bool = False,
) -> WeightSpec:
    """Returns the spec of `mlp(widths, activation, residual)`."""
    return mlp(widths, activation, residual).spec


def build_mlp(config: MLPConfig) -> Network:
    """Returns the network of a configuration; see `mlp`."""
    hidden = config.widths[1:-1]
    rows = [find_activation(name) for name in config.activation]
    # Hidden layer l writes stream streams[l].
    streams: list[int] = []
    for l, width in enumerate(hidden):
        tied = config.residual and l > 0 and width == hidden[l - 1]
        streams.append(streams[-1] + (not tied) if streams else 0)
    numbers = sorted(set(streams))
    found = [
        unit_space(
            space_name(number),
            hidden[streams.index(number)],
            [
                row
                for row, stream in zip(rows, streams, strict=True)
                if stream == number
            ],
        )
        for number in numbers
    ]
    wires = [
        Wire(config.widths[0]),
        *(found[stream][1] for stream in streams),
        Wire(config.widths[-1]),
    ]
    layers = tuple(
        Layer(
            layer_name(l),
            spaces.dense(layer_name(l), source, out),
            dense_product,
            row,
            out.space,
        )
        for l, (source, out, row) in enumerate(
            zip(wires[:-1], wires[1:], [*rows, None], strict=True)
        )
    )
    leaves = tuple(leaf for layer in layers for leaf in layer.leaves)
    spec = WeightSpec(tuple(space for space, _ in found), leaves)
    return Network(config, spec, layers)
