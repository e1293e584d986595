"""Networks of any architecture as one `Chain`: padded, and everything else as data."""

import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from qejax import _trees
from qejax._typing import Float, Theta
from qejax.nets._activations import NUM_CODES, activation_code
from qejax.nets._network import Network
from qejax.nets._pad_size import PadSize, size_of
from qejax.nets._plain import plain_layers, plain_shapes, plain_weights
from qejax.nets._skip_cnn import array_library
from qejax.spaces import Chain

NUM_FACTS = NUM_CODES + 14
"""Numbers that `padded` says of a layer beside its weights."""


def padded(network: Network, theta: Theta, size: PadSize | None = None) -> Chain:
    """Returns one network as a chain of a given shape.

    What a metanetwork for mixed architectures reads: networks of one size are stacked
    and share a program, see `qejax.models.MixedPredictor`. Pads with NumPy where the
    weights are of NumPy, so that loading a zoo compiles nothing; differentiable in
    weights of JAX.

    Args:
        network: an MLP, a CNN with or without skips, or a coordinate network, with at
            least one hidden layer.
        theta: weights of one network, no batch axis.
        size: to pad to; `None` for the smallest that holds it.

    Returns:
        The chain; floating leaves have the dtype of `theta`.

    Raises:
        ValueError: if the network is none of these, or does not fit.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> net = nets.cnn(1, (4, 6), 3, 2)
        >>> size = PadSize(layers=3, width=8, window=5, inputs=3, outputs=10)
        >>> padded(net, net.init(jax.random.key(0)), size).middle.shape
        (2, 5, 5, 8, 8)
    """
    size = size_of(network) if size is None else size
    if not size.holds(size_of(network)):
        raise ValueError(
            f"padded: expected a network that fits {size}, got one that needs "
            f"{size_of(network)}. Choose a size with nets.rung_of."
        )
    weights = plain_weights(network, theta)
    dtype = np.result_type(*(leaf.dtype for leaf in jax.tree.leaves(theta)))
    xp = array_library(theta)
    hidden, last = weights[:-1], weights[-1]
    middle: Any = [
        _kernel(xp, k, size.window, size.width, size.width) for k, _ in hidden[1:]
    ]
    square = (size.window, size.window, size.width, size.width)
    middle += [np.zeros(square, dtype)] * (size.layers - len(hidden))
    middle = xp.stack(middle) if middle else np.zeros((0, *square), dtype)
    bias = [_end(xp, b, size.width) for _, b in hidden]
    bias += [np.zeros(size.width, dtype)] * (size.layers - len(hidden))
    facts = _facts(network, size)
    arrays: dict[str, Any] = {
        name: value.astype(dtype) if value.dtype == np.float64 else value
        for name, value in facts._asdict().items()
    }
    return Chain(
        first=_kernel(xp, hidden[0][0], size.window, size.inputs, size.width),
        middle=middle,
        last=_kernel(xp, last[0], size.head, size.width, size.outputs),
        bias=xp.stack(bias),
        last_bias=_end(xp, last[1], size.outputs),
        **arrays,
    )


def padded_vector(
    network: Network, vector: Float[np.ndarray, " P"], size: PadSize | None = None
) -> Chain:
    """Returns `padded` of a network whose weights are one vector, as zoos store them.

    Args:
        network: as in `padded`.
        vector: in the order of `qejax.spaces.ravel`.
        size: as in `padded`.

    Raises:
        ValueError: as `padded`, and if the vector has another length.
    """
    spec = network.spec
    if vector.shape != (spec.num_parameters,):
        raise ValueError(
            f"padded_vector: expected {spec.num_parameters} weights of "
            f"{network.config}, got an array of shape {vector.shape}."
        )
    parts = np.split(vector, np.cumsum([leaf.size for leaf in spec.leaves])[:-1])
    leaves = {
        leaf.path: part.reshape(leaf.stored)
        for leaf, part in zip(spec.leaves, parts, strict=True)
    }
    return padded(network, _trees.nest(leaves), size)


class _Facts(NamedTuple):
    """The leaves of a `Chain` that do not depend on weights; floating ones float64."""

    live: np.ndarray
    root: np.ndarray
    scaled: np.ndarray
    signed: np.ndarray
    degree: np.ndarray
    turn: np.ndarray
    skip: np.ndarray
    sides: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    facts: np.ndarray


@functools.lru_cache(maxsize=4096)
def _facts(network: Network, size: PadSize) -> _Facts:
    layers = plain_layers(network)
    shape, groups = (size.layers, size.width), {s.name: s for s in network.spec.spaces}
    flags = {name: np.zeros(shape, bool) for name in ("live", "scaled", "signed")}
    root = np.tile(np.arange(size.layers, dtype=np.int32)[:, None], (1, size.width))
    degree = np.ones(size.layers, np.int32)
    turn, skip = np.zeros(size.layers), np.zeros((size.layers, size.layers))
    sides = np.zeros((size.layers + 1, 2), np.int32)
    rows = np.zeros((size.layers, NUM_FACTS))
    first: dict[str, int] = {}
    read = {layer.source for layer in layers}
    for number, layer in enumerate(layers):
        for name, start, stop in layer.blocks:
            group, cut = groups[name].group, slice(start, stop)
            flags["live"][number, cut] = True
            flags["scaled"][number, cut] = group == "positive_scale"
            flags["signed"][number, cut] = group in ("sign", "dihedral")
            root[number, cut] = first.setdefault(name, number)
            if group == "dihedral":
                turn[number] = layer.activation.turn
        degree[number] = layer.activation.degree
        sides[number] = layer.shape[:2]
        if layer.source >= 0:
            skip[number, layer.source] = 1
        rows[number] = _row(layers, number, number in read)
    *head, _, outputs = plain_shapes(network)[-1]
    sides[-1] = head
    return _Facts(
        **flags,
        root=root,
        degree=degree,
        turn=turn,
        skip=skip,
        sides=sides,
        inputs=np.asarray(layers[0].shape[2], np.int32),
        outputs=np.asarray(outputs, np.int32),
        facts=rows,
    )


def _row(layers: Any, number: int, read: bool) -> np.ndarray:
    """What is said of one layer, each of about unit size."""
    layer, depth = layers[number], len(layers)
    height, width, n_in, n_out = layer.shape
    code, value = activation_code(layer.activation.name)
    one_hot = np.zeros(NUM_CODES)
    one_hot[code] = 1
    numbers = (
        value / 2,
        math.log2(n_in) / 4,
        math.log2(n_out) / 4,
        height / 4,
        width / 4,
        math.log2(layer.stride),
        layer.pad / 2,
        math.log2(layer.pool),
        float(layer.source >= 0),
        float(read),
        float(number == 0),
        float(number == depth - 1),
        (number + 1) / depth,
        depth / 4,
    )
    return np.concatenate([one_hot, numbers])


def _kernel(xp: Any, kernel: Any, side: int, n_in: int, n_out: int) -> Any:
    """A kernel with its window in the middle of a larger one, units first."""
    height, width, *units = kernel.shape
    pads = [
        (side // 2 - own // 2, side - own - (side // 2 - own // 2))
        for own in (height, width)
    ]
    pads += [(0, most - own) for own, most in zip(units, (n_in, n_out), strict=True)]
    return xp.pad(kernel, pads)


def _end(xp: Any, x: Any, size: int) -> Any:
    return xp.pad(x, (0, size - x.shape[0]))
