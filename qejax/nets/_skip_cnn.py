"""Convolutional networks whose layers add what earlier ones wrote, where both have it.

A skip between layers of different widths ties the first channels of both and leaves
the others free. So channels fall into blocks: channel `c` of a layer belongs with
channel `c` of every layer that skips lead to, and channels that belong with the same
layers form a unit space. Every block of a kernel is a leaf of its own, so that the spec
needs nothing new; files hold plain kernels, see `SkipCNN.split` and `SkipCNN.join`.

Source: the architectures as in the CNN Wild Park of Kofinas et al. 2024,
arXiv:2403.12143; the blocks are our own.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.nets._activations import activation as find_activation
from qejax.nets._network import (
    After,
    Layer,
    Network,
    layer_name,
    space_name,
    unit_space,
)
from qejax.nets._patches import convolve
from qejax.nets._skip_config import SkipCNNConfig
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, Wire, check_theta

Plain = Mapping[str, Mapping[str, Array]]
"""`{layer: {"kernel", "bias"}}`, a convolution's kernel `[k, k, n_in, n_out]`."""


class Block(NamedTuple):
    """Channels `start:stop` of every layer of `layers` move together."""

    layers: tuple[int, ...]
    start: int
    stop: int


def tied_blocks(
    widths: Sequence[int], residual: Sequence[int]
) -> tuple[tuple[Block, ...], ...]:
    """Returns the blocks of every layer's channels, in order.

    Args:
        widths: channels of each layer.
        residual: number of the layer that it adds, -1 for none.

    Example:
        >>> [len(blocks) for blocks in tied_blocks((4, 8, 6), (-1, -1, 0))]
        [1, 1, 2]
    """
    found: list[dict[tuple[int, ...], list[int]]] = [{} for _ in widths]
    for channel in range(max(widths)):
        # Layers by the first layer that they are tied to at this channel.
        root = list(range(len(widths)))
        for number, source in enumerate(residual):
            if source >= 0 and channel < min(widths[number], widths[source]):
                old, new = sorted((root[number], root[source]), reverse=True)
                root = [new if r == old else r for r in root]
        for number, width in enumerate(widths):
            if channel < width:
                tied = tuple(l for l, r in enumerate(root) if r == root[number])
                found[number].setdefault(tied, []).append(channel)
    return tuple(
        tuple(Block(tied, own[0], own[-1] + 1) for tied, own in blocks.items())
        for blocks in found
    )


@dataclass(frozen=True)
class SkipCNN(Network):
    """A convolutional network with skips as pure functions; see `skip_cnn`."""

    config: SkipCNNConfig

    @property
    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """Blocks of the channels that each layer writes, the last one's as one block.

        Those of the images come first.
        """
        return _all_blocks(self.config)

    @property
    def names(self) -> dict[Block, str]:
        """Names of the unit spaces of the blocks, in network order."""
        return _space_names(self.config)

    def split(self, plain: Plain) -> Theta:
        """Returns the weights, kernels cut into blocks.

        Args:
            plain: `{"layer_00": {"kernel", "bias"}, ...}`, kernels `[k, k, n_in,
                n_out]` and `[n_in, n_out]` of the last layer; leading axes are kept.
        """
        theta: dict[str, dict[str, Array]] = {}
        for l, (sources, outs) in enumerate(_pairs(self.blocks)):
            name = layer_name(l)
            kernel, bias = plain[name]["kernel"], plain[name]["bias"]
            theta[name] = own = {}
            for o, out in enumerate(outs):
                cut = slice(out.start, out.stop)
                own[f"bias_{o}"] = bias[..., cut]
                for i, source in enumerate(sources):
                    rows = slice(source.start, source.stop)
                    own[f"kernel_{i}_{o}"] = kernel[..., rows, cut]
        return theta

    def join(self, theta: Theta) -> dict[str, dict[str, Array]]:
        """Returns the plain kernels and biases of all layers; undoes `split`."""
        plain: dict[str, dict[str, Array]] = {}
        xp = array_library(theta)
        for l, (sources, outs) in enumerate(_pairs(self.blocks)):
            own, name = theta[layer_name(l)], layer_name(l)
            columns = [
                xp.concatenate(
                    [own[f"kernel_{i}_{o}"] for i in range(len(sources))], -2
                )
                for o in range(len(outs))
            ]
            bias = xp.concatenate([own[f"bias_{o}"] for o in range(len(outs))], -1)
            plain[name] = {"kernel": xp.concatenate(columns, -1), "bias": bias}
        return plain

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns random weights and zero biases, as those of any other network."""
        plain: dict[str, dict[str, Array]] = {}
        for number, (shape, row) in enumerate(_layers(self.config)):
            draw = jax.random.normal(jax.random.fold_in(key, number), shape, dtype)
            std = math.sqrt((row.gain if row else 1) / math.prod(shape[:-1]))
            bias = jnp.zeros(shape[-1], dtype)
            plain[layer_name(number)] = {"kernel": std * draw, "bias": bias}
        return self.split(plain)

    def units(self, theta: Theta, x: Array) -> tuple[Array, dict[str, Array]]:
        """Returns the outputs, and the activations of every unit space.

        A space that several layers write returns the last of them.

        Args:
            theta: weights of one network.
            x: `[N, height, width, channels]`.

        Raises:
            ValueError: as `run`.
        """
        found: dict[str, Array] = {}

        def keep(layer: Layer, x: Array) -> Array:
            found[layer.name] = x
            return x

        outputs = self.run(theta, x, keep)
        names = self.names
        units = {
            names[block]: found[layer_name(l)][..., block.start : block.stop]
            for l, blocks in enumerate(self.blocks[1:-1])
            for block in blocks
        }
        return outputs, {space.name: units[space.name] for space in self.spec.spaces}

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns the outputs, with `after` applied to the units of every layer.

        Args:
            theta: weights of one network.
            x: `[N, height, width, channels]`.
            after: `(layer, units) -> units`.

        Returns:
            The outputs `[N, n_L]`.

        Raises:
            ValueError: if `theta` does not fit the spec, or the images the network, or
                a layer adds a map of another size.
        """
        check_theta(self.spec, theta)
        config: Any = self.config
        plain = self.join(theta)
        written: list[Array] = []
        # Convolutions and skips are here, not in layers: kernels come in blocks.
        for number, (_, row) in enumerate(_layers(config)[:-1]):
            weights = plain[layer_name(number)]
            pad, stride = config.padding[number], config.strides[number]
            x = jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
            x = convolve(x, weights["kernel"], (stride, stride), "VALID")
            x = x + weights["bias"].reshape(1, 1, 1, -1)
            if config.residual[number] >= 0:
                x = _added(number, x, config.residual[number], written)
            layer = Layer(layer_name(number), (), jnp.matmul, row, layer_name(number))
            x = after(layer, row.function(x))
            written.append(x)
        last = plain[layer_name(len(written))]
        return x.mean((1, 2)) @ last["kernel"] + last["bias"].reshape(1, -1)


def _added(number: int, x: Array, source: int, written: list[Array]) -> Array:
    other = written[source]
    if other.shape[1:-1] != x.shape[1:-1]:
        raise ValueError(
            f"skip_cnn residual: layer {number} has a map of {x.shape[1:-1]} and adds "
            f"that of layer {source}, expected the same size, got {other.shape[1:-1]}. "
            f"Pad by half a window, with stride 1 between them."
        )
    shared = min(x.shape[-1], other.shape[-1])
    rest = [(0, 0)] * (x.ndim - 1) + [(0, x.shape[-1] - shared)]
    return x + jnp.pad(other[..., :shared], rest)


def skip_cnn(channels: Sequence[int], windows: Any = 3, **fields: Any) -> SkipCNN:
    """Returns a convolutional network whose layers may add what earlier ones wrote.

    Args:
        channels: of the images, then of each layer.
        windows: sides of the square kernels, for all layers or each.
        **fields: of `SkipCNNConfig`.

    Returns:
        The network for images `[N, height, width, channels]`, its last layer dense
        after an average over positions. `theta` holds a leaf for every pair of blocks
        of channels that move together, `{"layer_00": {"bias_0", "kernel_0_0"}, ...}`;
        `split` and `join` convert from and to plain kernels. Units that a skip ties
        keep scales or signs only if every activation has the same, of degree 1.

    Raises:
        ValueError: as `SkipCNNConfig`.

    Example:
        >>> net = skip_cnn((3, 4, 8, 6), residual=(-1, -1, 0))
        >>> [(space.size, space.group) for space in net.spec.spaces]
        [(4, 'positive_scale'), (8, 'positive_scale'), (2, 'positive_scale')]
    """
    given: Any = {"channels": channels, "windows": windows, **fields}
    return build_skip_cnn(SkipCNNConfig(**given))


def build_skip_cnn(config: SkipCNNConfig) -> SkipCNN:
    """Returns the network of a configuration; see `skip_cnn`."""
    names, rows = _space_names(config), [row for _, row in _layers(config)]
    spaces: list[UnitSpace] = []
    wires: dict[Block, Wire] = {}
    for block, name in names.items():
        activations: Any = [rows[l] for l in block.layers]
        space, wires[block] = unit_space(name, block.stop - block.start, activations)
        spaces.append(space)
    blocks = _all_blocks(config)
    for end in (*blocks[0], *blocks[-1]):
        wires[end] = Wire(end.stop)
    leaves: list[Leaf] = []
    sides: Any = (*((k, k) for k in config.windows), ())  # type: ignore[union-attr]
    for l, (sources, outs) in enumerate(_pairs(blocks)):
        window, name = tuple(Axis(side) for side in sides[l]), layer_name(l)
        for o, out in enumerate(outs):
            write = wires[out].write()
            for i, source in enumerate(sources):
                axes = (*window, *wires[source].reads(), write)
                leaves.append(Leaf(f"{name}/kernel_{i}_{o}", axes))
            turn = Axis(write.size, write.space, write.power, wires[out].turn)
            leaves.append(Leaf(f"{name}/bias_{o}", (turn,)))
    return SkipCNN(config, WeightSpec(tuple(spaces), tuple(leaves)), ())


def _layers(config: Any) -> list[tuple[tuple[int, ...], Any]]:
    """Shapes of the kernels, and the activations behind them."""
    pairs = zip(config.channels[:-1], config.channels[1:], config.windows, strict=True)
    rows = [find_activation(name) for name in config.activation]
    convs = [(k, k, n_in, n_out) for n_in, n_out, k in pairs]
    last = (config.channels[-1], config.num_outputs)
    return [*zip(convs, rows, strict=True), (last, None)]


def _all_blocks(config: Any) -> tuple[tuple[Block, ...], ...]:
    hidden = tied_blocks(config.channels[1:], config.residual)
    first, last = config.channels[0], config.num_outputs
    return ((Block((-1,), 0, first),), *hidden, (Block((-2,), 0, last),))


def _pairs(blocks: tuple[tuple[Block, ...], ...]) -> Any:
    return itertools.pairwise(blocks)


def array_library(arrays: Any) -> Any:
    """Returns NumPy where all arrays are of NumPy, and else `jax.numpy`."""
    leaves = jax.tree.leaves(arrays)
    return np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp


def _space_names(config: Any) -> dict[Block, str]:
    """Names of the unit spaces, in the order in which they are first written."""
    found = dict.fromkeys(b for blocks in _all_blocks(config)[1:-1] for b in blocks)
    return {block: space_name(number) for number, block in enumerate(found)}
