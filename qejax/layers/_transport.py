"""Message passing along fixed edges: signals travel as they do in the network.

The fast relative of `MessagePassing`: edges get `2 R` features once,
`A_e = [E a, f(E b)]` with `f = silu`, and only nodes are updated,

`N_s += O f(norm(W [N_s, A_e N_t V for every edge and its far end t]))`,

where `A_e N_t V` contracts the far end: one small matrix product per edge set and
direction, `c` columns, so that no array has more than `P R` entries.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array
from qejax.layers._graph import Graph, GraphFeatures, Incidence
from qejax.layers._message_passing import NodeEmbed, key_of, layer_norm, touches


class Transport(nnx.Module):
    """Node features from weights by repeated transport; equivariant to permutations.

    Args:
        graph: of the weight space.
        channels: of the nodes, `C`.
        rank: of the edges, `R`: as many linear and as many rectified features.
        carried: channels that a node sends along an edge, `c`.
        depth: number of rounds.
        extra: further channels of the nodes, by node set (activations on probes).
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        rank: int = 4,
        carried: int = 8,
        depth: int = 2,
        extra: dict[str, int] | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.graph = graph
        self.rank = rank
        self.carried = carried

        def linear(fan_in: int, fan_out: int) -> nnx.Linear:
            return nnx.Linear(fan_in, fan_out, param_dtype=param_dtype, rngs=rngs)

        self.embed = NodeEmbed(
            graph, channels, extra=extra, param_dtype=param_dtype, rngs=rngs
        )
        self.edge = nnx.Dict(
            {key_of(e.path): linear(e.channels, 2 * rank) for e in graph.edges}
        )
        self.rounds = nnx.Dict()
        for number in range(depth):
            parts = nnx.Dict(
                {"send": nnx.Dict(), "read": nnx.Dict(), "write": nnx.Dict()}
            )
            for name, _ in graph.nodes:
                sends = len(touches(graph, name))
                gets = sum(len(edge.ends) - 1 for edge, _ in touches(graph, name))
                if sends:
                    parts["send"][name] = linear(channels, sends * carried)
                parts["read"][name] = linear(
                    channels + gets * 2 * rank * carried, channels
                )
                parts["write"][name] = linear(channels, channels)
            self.rounds[f"{number:02d}"] = parts

    def __call__(
        self, features: GraphFeatures, extra: dict[str, Array] | None = None
    ) -> GraphFeatures:
        """Returns nodes `[n_s, C]`; no edges, and the globe as it came.

        Args:
            features: from `arrange`.
            extra: by node set, `[n_s, u]`.
        """
        nodes = self.embed(features, extra)
        edges = {}
        for edge in self.graph.edges:
            both = self.edge[key_of(edge.path)](features.edges[edge.path])
            straight, bent = jnp.split(both, 2, -1)
            edges[edge.path] = jnp.concatenate([straight, jax.nn.silu(bent)], -1)
        for number in sorted(self.rounds):
            nodes = self._round(self.rounds[number], nodes, edges)
        return GraphFeatures(nodes, {}, features.globe)

    def _round(
        self, parts: nnx.Dict, nodes: dict[str, Array], edges: dict[str, Array]
    ) -> dict[str, Array]:
        sent: dict[tuple[str, int], Array] = {}
        for name, x in nodes.items():
            own = touches(self.graph, name)
            if own:
                blocks = jnp.split(parts["send"][name](x), len(own), -1)
                for (edge, position), block in zip(own, blocks, strict=True):
                    sent[edge.path, position] = block
        updated = {}
        for name, x in nodes.items():
            messages = [x]
            for edge, position in touches(self.graph, name):
                messages += _carry(edge, position, edges[edge.path], sent)
            h = parts["read"][name](jnp.concatenate(messages, -1))
            updated[name] = x + parts["write"][name](jax.nn.silu(layer_norm(h)))
        return updated


def _carry(
    edge: Incidence, position: int, weights: Array, sent: dict[tuple[str, int], Array]
) -> list[Array]:
    """What arrives at one end of an edge set from each other end, `[n, 2 R c]`."""
    messages = []
    for other in range(len(edge.ends)):
        if other == position:
            continue
        rest = tuple(p for p in range(len(edge.ends)) if p not in (position, other))
        flat = jnp.mean(weights, rest) if rest else weights
        value = sent[edge.path, other]
        form = "ior,ic->orc" if other < position else "oir,ic->orc"
        carried = jnp.einsum(form, flat, value) / math.sqrt(value.shape[0])
        messages.append(carried.reshape(carried.shape[0], -1))
    return messages
