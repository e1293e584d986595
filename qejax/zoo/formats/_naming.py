"""How libraries name weights and order their axes: a new library is a new row.

A layer of a file is what is in front of the last dot or slash of a name, a kind of
weight is what is behind it: `features.0` and `weight`.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from qejax.nets import CNNConfig, Layer, Network, TransformerConfig
from qejax.spaces import Leaf


class Style(NamedTuple):
    """Names and axes of a library.

    Attributes:
        kinds: its name for each of our kinds of leaves.
        join: what is between the parts of a name.
        outputs_first: whether kernels are `(out, in)` and `(out, in, height, width)`,
            and maps are flattened channels first.
    """

    kinds: dict[str, str]
    join: str
    outputs_first: bool


OURS = ("kernel", "bias", "scale", "embedding", "lora_a", "lora_b")

STYLES: dict[str, Style] = {
    "qejax": Style(dict(zip(OURS, OURS, strict=True)), "/", False),
    "flax": Style(dict(zip(OURS, OURS, strict=True)), ".", False),
    "torch": Style(
        {
            "kernel": "weight",
            "bias": "bias",
            "scale": "weight",
            "embedding": "weight",
            "lora_a": "lora_A.weight",
            "lora_b": "lora_B.weight",
        },
        ".",
        True,
    ),
    "keras": Style(
        {
            "kernel": "kernel:0",
            "bias": "bias:0",
            "scale": "gamma:0",
            "embedding": "embeddings:0",
            "lora_a": "lora_a:0",
            "lora_b": "lora_b:0",
        },
        "/",
        False,
    ),
}
"""Libraries by name."""

STATISTICS = {
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "mean",
    "var",
    "moving_mean:0",
    "moving_variance:0",
}
"""Kinds that tell that a layer is a batch norm."""

AXES = {
    "dense": (1, 0),
    "convolution": (3, 2, 0, 1),
    "patches": (3, 2, 0, 1),
    "flatten": (2, 1, 0),
    "heads": (1, 0),
    "merge": (1, 0),
}
"""Our axes in the order of libraries that write outputs first, by role; others stay."""


class Layout(NamedTuple):
    """How a leaf becomes a tensor: split axes, order them, join them again.

    Attributes:
        split: shape of the leaf with joined axes apart.
        axes: their order in the tensor.
        shape: of the tensor.
    """

    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]


def split_name(name: str) -> tuple[str, str]:
    """Returns the layer and the kind of a tensor.

    Example:
        >>> split_name("features.0.weight"), split_name("conv2d/kernel:0")
        (('features.0', 'weight'), ('conv2d', 'kernel:0'))
    """
    at = max(name.rfind("."), name.rfind("/"))
    return name[: max(at, 0)], name[at + 1 :]


def family(layer: str) -> str:
    """Returns the name of a layer without its numbers.

    Example:
        >>> family("block_01.conv2")
        'block_#.conv#'
    """
    return re.sub("[0-9]+", "#", layer)


def leaf_layer(leaf: Leaf) -> tuple[str, str]:
    """Returns the layer and the kind of a leaf of ours."""
    layer, _, kind = leaf.path.rpartition("/")
    return layer, kind


def tensor_name(leaf: Leaf, style: Style) -> str:
    """Returns what a library would call a leaf, its layer named as ours is."""
    layer, kind = leaf_layer(leaf)
    parts = [*layer.split("/")] if layer else []
    return style.join.join([*parts, style.kinds.get(kind, kind)])


def _is_convolution(layer: Layer) -> bool:
    return any(len(leaf.stored) == 4 for leaf in layer.leaves)


def _role(network: Network, leaf: Leaf) -> tuple[str, tuple[int, ...]]:
    """What a leaf is to its network, and its shape with joined axes apart."""
    layer, kind = leaf_layer(leaf)
    shape, config = leaf.stored, network.config
    if kind == "bias":
        return "bias", (leaf.size,)
    if kind not in ("kernel", "lora_a", "lora_b"):
        return "as it is", shape
    if len(shape) == 4:
        return "convolution", shape
    if layer.endswith(("/query", "/key", "/value")):
        return "heads", (shape[0], math.prod(shape[1:]))
    if layer.endswith("attention/out"):
        return "merge", (math.prod(shape[:-1]), shape[-1])
    if isinstance(config, TransformerConfig) and layer == "embed":
        side = config.patch
        return "patches", (side, side, shape[0] // side**2, shape[1])
    if isinstance(config, CNNConfig) and config.head == "flatten":
        first = network.layers[sum(map(_is_convolution, network.layers))].name
        if layer != first:  # a dense layer behind the one that reads the map
            return "dense", shape
        channels = config.channels[-1]
        return "flatten", (shape[0] // channels, channels, shape[1])
    return ("dense" if len(shape) == 2 else "as it is"), shape


def layout(network: Network, leaf: Leaf, style: Style) -> Layout:
    """Returns how a leaf of a network is stored by a library.

    Example:
        >>> from qejax import nets
        >>> net = nets.cnn(1, (3,), head="flatten", image=(4, 4), num_outputs=2)
        >>> conv, _, dense, _ = net.spec.leaves
        >>> layout(net, conv, STYLES["torch"]).shape
        (3, 1, 3, 3)
        >>> layout(net, dense, STYLES["torch"])  # positions, channels, outputs
        Layout(split=(4, 3, 2), axes=(2, 1, 0), shape=(2, 12))
    """
    role, split = _role(network, leaf)
    stay = tuple(range(len(split)))
    if not style.outputs_first:
        # Only patches have another shape elsewhere: that of a convolution.
        shape = split if role == "patches" and style.join == "." else leaf.stored
        return Layout(split, stay, shape)
    axes = AXES.get(role, stay)
    shape = tuple(split[axis] for axis in axes)
    if role == "flatten":
        shape = (shape[0], shape[1] * shape[2])
    return Layout(split, axes, shape)


def to_tensor(leaf: np.ndarray, how: Layout) -> np.ndarray:
    """Returns the tensor of a leaf."""
    moved = leaf.reshape(how.split).transpose(how.axes)
    return np.ascontiguousarray(moved.reshape(how.shape))


def to_leaf(tensor: np.ndarray, how: Layout, leaf: Leaf) -> np.ndarray:
    """Returns the leaf of a tensor, as it is stored."""
    apart = tensor.reshape([how.split[axis] for axis in how.axes])
    return apart.transpose(np.argsort(how.axes)).reshape(leaf.stored)


def style_of(where: str, tensors: Mapping[str, object]) -> str:
    """Returns the library that names its weights so.

    Raises:
        ValueError: if none or several do.
    """
    kinds = {split_name(name)[1] for name in tensors}
    marks = {"torch": {"weight"}, "keras": {"kernel:0"}, "flax": {"kernel"}}
    found = [name for name, own in marks.items() if own & kinds]
    if len(found) != 1:
        raise ValueError(
            f"{where}: expected weights that are called 'weight', 'kernel' or "
            f"'kernel:0', one of these, got {sorted(kinds)[:8]}. Rename them, or name "
            f"them as nets.build(config).spec does."
        )
    return found[0]
