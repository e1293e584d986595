"""A weight space as a graph: unit spaces are node sets, weights are edges.

A leaf with one moved axis is a feature of those units, a leaf with two is a set of
edges, a leaf with none a feature of the whole network. Axes that never move are folded
into channels; the outputs of the network can instead be a node set of their own, whose
members are told apart by a learned encoding.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import jax.numpy as jnp

from qejax._typing import Array, Leaves
from qejax.layers._encodings import index_encoding
from qejax.spaces import Leaf, WeightSpec

Outputs = Literal["nodes", "channels"]
"""What the outputs of the network are: a node set, or channels of what writes them."""


class GraphFeatures(NamedTuple):
    """Features of one network seen as a graph.

    Attributes:
        nodes: by node set, `[n_s, C]`.
        edges: by leaf path, `[*sizes of the ends, C]`.
        globe: `[C]`, of the whole network.
    """

    nodes: dict[str, Array]
    edges: dict[str, Array]
    globe: Array


@dataclass(frozen=True)
class Incidence:
    """One leaf in the graph.

    Attributes:
        path: of the leaf.
        ends: node set of every axis that is not folded.
        order: axes of the view, ends first and folded ones last.
        folded: number of entries folded into channels.
        channels: number of channels, `folded` or the rank it is projected to.
    """

    path: str
    ends: tuple[str, ...]
    order: tuple[int, ...]
    folded: int
    channels: int


@dataclass(frozen=True)
class Graph:
    """The graph of a weight space; hashable.

    Attributes:
        spec: the weight space; its scales play no part here.
        nodes: size of every node set by name, as sorted pairs: the unit spaces in the
            order of the spec, then the outputs.
        incidences: one per leaf, in the order of the spec.
    """

    spec: WeightSpec
    nodes: tuple[tuple[str, int], ...]
    incidences: tuple[Incidence, ...]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of every node set."""
        return dict(self.nodes)

    @cached_property
    def edges(self) -> tuple[Incidence, ...]:
        """Leaves with two ends or more."""
        return tuple(i for i in self.incidences if len(i.ends) > 1)

    def at(self, node: str | None) -> tuple[Incidence, ...]:
        """Leaves whose only end is `node`; those without an end for `None`."""
        ends = () if node is None else (node,)
        return tuple(i for i in self.incidences if i.ends == ends)

    def node_channels(self, node: str | None) -> int:
        """Channels that `arrange` gives to a node set, or to the globe for `None`."""
        return sum(incidence.channels for incidence in self.at(node))


def graph_of(
    spec: WeightSpec, outputs: Outputs = "nodes", max_fold: int = 1024
) -> Graph:
    """Returns the graph of a weight space.

    Args:
        spec: the weight space.
        outputs: whether the fixed axis that a leaf writes (its last) is a node set
            `"outputs_<size>"` shared by all leaves that write it, or folded.
        max_fold: more folded entries than this are projected on as many cosines.

    Returns:
        The graph; `arrange` brings weights into it.

    Example:
        >>> from qejax import nets
        >>> graph = graph_of(nets.mlp_spec((4, 3, 2), activation="relu"))
        >>> graph.sizes
        {'hidden_0': 3, 'outputs_2': 2}
        >>> [edge.path for edge in graph.edges]
        ['layer_01/kernel']
    """
    incidences = tuple(_incidence(leaf, outputs, max_fold) for leaf in spec.leaves)
    sizes = {space.name: space.size for space in spec.spaces}
    for leaf, incidence in zip(spec.leaves, incidences, strict=True):
        for axis, end in zip(incidence.order, incidence.ends, strict=False):
            sizes[end] = leaf.axes[axis].size
    return Graph(spec, tuple(sizes.items()), incidences)


def _incidence(leaf: Leaf, outputs: Outputs, max_fold: int) -> Incidence:
    last = len(leaf.axes) - 1
    ends, kept, folded = [], [], []
    for position, axis in enumerate(leaf.axes):
        if axis.space is not None:
            ends.append(axis.space)
            kept.append(position)
        elif position == last and outputs == "nodes":
            ends.append(f"outputs_{axis.size}")
            kept.append(position)
        else:
            folded.append(position)
    size = math.prod(leaf.axes[position].size for position in folded)
    order = (*kept, *folded)
    return Incidence(leaf.path, tuple(ends), order, size, min(size, max_fold))


def arrange(graph: Graph, leaves: Leaves) -> GraphFeatures:
    """Returns weights as features of the graph, nothing trained.

    Linear, and exact: permuting units permutes nodes and the ends of edges. Do it once
    per network, in the data pipeline.

    Args:
        graph: of the weight space.
        leaves: by path, `[*leaf.view]` (see `qejax.spaces.views`).

    Returns:
        Features whose channels are the folded entries; a node set or globe that no
        leaf belongs to alone has none.
    """
    parts = {i.path: _fold(i, leaves[i.path]) for i in graph.incidences}
    dtype = jnp.result_type(*parts.values())

    def joined(node: str | None, shape: tuple[int, ...]) -> Array:
        own = [parts[i.path] for i in graph.at(node)]
        return jnp.concatenate(own, -1) if own else jnp.zeros((*shape, 0), dtype)

    return GraphFeatures(
        nodes={name: joined(name, (size,)) for name, size in graph.nodes},
        edges={i.path: parts[i.path] for i in graph.edges},
        globe=joined(None, ()),
    )


def _fold(incidence: Incidence, leaf: Array) -> Array:
    ordered = leaf.transpose(incidence.order)
    flat = ordered.reshape(*ordered.shape[: len(incidence.ends)], incidence.folded)
    if incidence.channels == incidence.folded:
        return flat
    return flat @ index_encoding(incidence.folded, incidence.channels, leaf.dtype)
