"""Message passing between the units of a network, for any weight space.

Equivariant to permutations of the units of every space, with one parameter set per
leaf. `Embed` gives every node and edge of the graph (`_graph.py`) the same number of
channels, `MessagePassing` is one residual block:

`a_e = f(E_e U_e + sum_ends N_end V_end,e)`, `E_e += a_e`,
`N_s += W_s' f(W_s [N_s, G, mean of a_e, mean of a_e * (N_other T)])`, over other ends,

with `f = silu . layer norm` and `G` a linear map of the mean of all nodes. The sums
over both ends of a weight span the maps of permutation-equivariant linear layers; the
products with the far end (`transport`) let a signal travel along the weights as it does
in the network. Only dense products with `C` columns: cost `O(P C^2)`.

Sources: Zhou et al. 2023, arXiv:2302.14040 (the linear maps); Kofinas et al. 2024,
arXiv:2403.12143 and Lim et al. 2023, arXiv:2312.04501 (networks as graphs).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array
from qejax.layers._graph import Graph, GraphFeatures, Incidence


def layer_norm(x: Array) -> Array:
    """Normalises the last axis to mean 0 and variance 1; no parameters.

    The `1e-5` in the variance is harmless for features that are already invariant to
    scales. It makes the layer inexact on raw weights: do not use it there.
    """
    centred = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(centred * centred, -1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5)


class NodeEmbed(nnx.Module):
    """Maps the nodes of a graph to `channels` channels each, linearly.

    Args:
        graph: of the weight space.
        channels: of the result, `C`.
        extra: further channels of the nodes, by node set (activations on probes).
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        extra: dict[str, int] | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        extra = {} if extra is None else extra
        self.linear, self.encoding = nnx.Dict(), nnx.Dict()
        for name, size in graph.nodes:
            own = graph.node_channels(name) + extra.get(name, 0)
            self.linear[name] = _linear(own, channels, param_dtype, rngs)
            if name not in graph.spec.space_by_name:
                # Outputs are told apart; units never are.
                noise = jax.random.normal(rngs.params(), (size, channels), param_dtype)
                self.encoding[name] = nnx.Param(0.1 * noise)

    def __call__(
        self, features: GraphFeatures, extra: dict[str, Array] | None = None
    ) -> dict[str, Array]:
        """Returns `[n_s, C]` by node set.

        Args:
            features: from `arrange`.
            extra: by node set, `[n_s, u]`; concatenated to the nodes.
        """
        extra = {} if extra is None else extra
        nodes = {}
        for name, x in features.nodes.items():
            if name in extra:
                x = jnp.concatenate([x, extra[name].astype(x.dtype)], -1)
            nodes[name] = self.linear[name](x)
            if name in self.encoding:
                nodes[name] = nodes[name] + self.encoding[name][...]
        return nodes


class Embed(nnx.Module):
    """Maps nodes, edges and globe of a graph to `channels` channels each, linearly.

    Args:
        graph: of the weight space.
        channels: of the result, `C`.
        extra: further channels of the nodes, by node set.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        extra: dict[str, int] | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.nodes = NodeEmbed(
            graph, channels, extra=extra, param_dtype=param_dtype, rngs=rngs
        )
        self.edges = nnx.Dict(
            {
                key_of(edge.path): _linear(edge.channels, channels, param_dtype, rngs)
                for edge in graph.edges
            }
        )
        self.globe = _linear(graph.node_channels(None), channels, param_dtype, rngs)

    def __call__(
        self, features: GraphFeatures, extra: dict[str, Array] | None = None
    ) -> GraphFeatures:
        """Returns features with `C` channels everywhere.

        Args:
            features: from `arrange`.
            extra: by node set, `[n_s, u]`.
        """
        edges = {p: self.edges[key_of(p)](x) for p, x in features.edges.items()}
        nodes = self.nodes(features, extra)
        return GraphFeatures(nodes, edges, self.globe(features.globe))


class MessagePassing(nnx.Module):
    """One block of messages between nodes along edges; see the module docstring.

    Args:
        graph: of the weight space.
        channels: of all features, `C`.
        transport: whether messages carry products of an edge and its far end.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        transport: bool = True,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.graph = graph
        self.channels = channels
        self.transport = transport

        def linear(blocks_in: int, blocks_out: int) -> nnx.Module:
            return _linear(
                blocks_in * channels, blocks_out * channels, param_dtype, rngs
            )

        self.edge, self.send = nnx.Dict(), nnx.Dict()
        self.read, self.write = nnx.Dict(), nnx.Dict()
        for edge in graph.edges:
            self.edge[key_of(edge.path)] = linear(1, 1)
        for name, _ in graph.nodes:
            # To each edge that it touches: its term, and what it transports.
            ends = len(touches(graph, name)) * (2 if transport else 1)
            if ends:
                self.send[name] = linear(1, ends)
            self.read[name] = linear(2 + ends, 1)
            self.write[name] = linear(1, 1)
        self.globe = linear(1 + len(graph.nodes), 1)

    def __call__(self, features: GraphFeatures) -> GraphFeatures:
        """Returns features of the same shapes.

        Args:
            features: `C` channels everywhere.
        """
        nodes = features.nodes
        means = [jnp.mean(x, 0) for x in nodes.values()]
        globe = self.globe(jnp.concatenate([features.globe, *means]))
        sent = {name: self._split(name, x) for name, x in nodes.items()}
        active = {}
        for edge in self.graph.edges:
            h = self.edge[key_of(edge.path)](features.edges[edge.path])
            for position, name in enumerate(edge.ends):
                term = sent[name][edge.path, position][0]
                h = h + _along(term, position, len(edge.ends))
            active[edge.path] = jax.nn.silu(layer_norm(h))
        edges = {path: x + active[path] for path, x in features.edges.items()}
        updated = {}
        for name, x in nodes.items():
            parts = [x, jnp.broadcast_to(globe[None], x.shape)]
            for edge, position in touches(self.graph, name):
                parts += self._messages(edge, position, active[edge.path], sent)
            h = jax.nn.silu(layer_norm(self.read[name](jnp.concatenate(parts, -1))))
            updated[name] = x + self.write[name](h)
        return GraphFeatures(updated, edges, features.globe + globe)

    def _split(
        self, name: str, x: Array
    ) -> dict[tuple[str, int], tuple[Array, Array | None]]:
        """What a node set sends to each edge end: a term, and what it transports."""
        own = touches(self.graph, name)
        if not own:
            return {}
        blocks = jnp.split(self.send[name](x), len(self._blocks(name)), -1)
        found = dict(zip(self._blocks(name), blocks, strict=True))
        return {
            (edge.path, position): (
                found[edge.path, position, 0],
                found.get((edge.path, position, 1)),
            )
            for edge, position in own
        }

    def _blocks(self, name: str) -> list[tuple[str, int, int]]:
        kinds = (0, 1) if self.transport else (0,)
        return [
            (edge.path, position, kind)
            for edge, position in touches(self.graph, name)
            for kind in kinds
        ]

    def _messages(
        self,
        edge: Incidence,
        position: int,
        active: Array,
        sent: dict[str, dict[tuple[str, int], tuple[Array, Array | None]]],
    ) -> list[Array]:
        others = tuple(p for p in range(len(edge.ends)) if p != position)
        messages = [jnp.mean(active, others)]
        if self.transport:
            carried = None
            for other in others:
                value = sent[edge.ends[other]][edge.path, other][1]
                assert value is not None
                along = _along(value, other, len(edge.ends))
                carried = along if carried is None else carried + along
            assert carried is not None
            messages.append(jnp.mean(active * carried, others))
        return messages


class MessageStack(nnx.Module):
    """`Embed` and `depth` blocks of `MessagePassing`.

    Args:
        graph: of the weight space.
        channels: of all features, `C`.
        depth: number of blocks.
        transport: as in `MessagePassing`.
        extra: further channels of the nodes, by node set.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        depth: int = 2,
        transport: bool = True,
        extra: dict[str, int] | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.embed = Embed(
            graph, channels, extra=extra, param_dtype=param_dtype, rngs=rngs
        )
        self.blocks = nnx.Dict(
            {
                f"{number:02d}": MessagePassing(
                    graph,
                    channels,
                    transport=transport,
                    param_dtype=param_dtype,
                    rngs=rngs,
                )
                for number in range(depth)
            }
        )

    def __call__(
        self, features: GraphFeatures, extra: dict[str, Array] | None = None
    ) -> GraphFeatures:
        """Returns features with `C` channels everywhere.

        Args:
            features: from `arrange`.
            extra: by node set, `[n_s, u]`.
        """
        features = self.embed(features, extra)
        for number in sorted(self.blocks):
            features = self.blocks[number](features)
        return features


def key_of(path: str) -> str:
    """Returns the name of a leaf's parameters; a `/` would look like a subtree."""
    return path.replace("/", ".")


def touches(graph: Graph, name: str) -> tuple[tuple[Incidence, int], ...]:
    """Returns the edge sets at a node set, each with the position of that end."""
    return tuple(
        (edge, position)
        for edge in graph.edges
        for position, end in enumerate(edge.ends)
        if end == name
    )


def _along(x: Array, position: int, rank: int) -> Array:
    """Returns `[n, C]` shaped to broadcast over the ends of an edge."""
    shape = [1] * rank + [x.shape[-1]]
    shape[position] = x.shape[0]
    return x.reshape(shape)


class _Constant(nnx.Module):
    """The linear map of no channels: a learned vector, the same at every node."""

    def __init__(self, channels: int, dtype: DTypeLike) -> None:
        self.bias = nnx.Param(jnp.zeros(channels, dtype))

    def __call__(self, x: Array) -> Array:
        bias = self.bias[...]
        shape = (*x.shape[:-1], bias.shape[0])
        return jnp.broadcast_to(bias.reshape([1] * (x.ndim - 1) + [-1]), shape)


def _linear(fan_in: int, channels: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    if fan_in == 0:
        return _Constant(channels, dtype)
    return nnx.Linear(fan_in, channels, param_dtype=dtype, rngs=rngs)
