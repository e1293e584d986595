"""Networks from features of a weight space to one change of every entry of it.

Three ways: a stack of strictly equivariant layers (`LayerChanges`), units that keep
their signs (`SignedChanges`), and messages between units of a normal form
(`GraphChanges`). The first two move with signs (the first with every group), the last
with permutations.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax import layers
from qejax._typing import Array, Leaves
from qejax.layers import Incidence, key_of
from qejax.models._signed_trunk import CLIP
from qejax.models._trunks import TrunkConfig, covariant, related
from qejax.spaces import Leaf, WeightSpec


@dataclass(frozen=True)
class EditorConfig:
    """Choices of `Editor`; hashable.

    Attributes:
        depth: layers, or rounds of messages.
        eta: size of the edit at first, relative to the root mean square of each leaf;
            one number per leaf is learned.
        hidden: width of the update of a unit of "signed".
        waves: learned frequencies of matrices that write units and read none, such as
            those that read inputs; 0 for none. See `qejax.layers.InputWaves`.
        rate: standard deviation of the frequencies at first, in units of one over the
            root mean square of a leaf.
        heads: of attention over units; 0 for plain sums, and for all kinds but
            "signed".
        rank: products per entry in the readout of "signed".
        max_fixed: as in `MonomialLinear`.
        eps: of group-valued maps, in (0, 1).
        precision: of what is trained, see `qejax.layers.PRECISIONS`.
    """

    depth: int = 2
    eta: float = 0.01
    hidden: int = 64
    waves: int = 16
    rate: float = 3.0
    heads: int = 0
    rank: int = 16
    max_fixed: int | None = 16
    eps: float = 0.5
    precision: layers.PrecisionName = "float32"

    @property
    def param_dtype(self) -> DTypeLike:
        """Of the parameters."""
        return layers.precision_of(self.precision).params

    def trunk(self, channels: int) -> TrunkConfig:
        """Returns what layers are made of."""
        return TrunkConfig(
            channels=channels,
            depth=self.depth,
            max_fixed=self.max_fixed,
            eps=self.eps,
            param_dtype=self.param_dtype,
        )


class LayerChanges(nnx.Module):
    """Waves, a stack of strict layers, then a strict linear one to a single channel.

    Args:
        spec: of the features.
        channels: `C` in between.
        config: of the editor.
        relative: whether layers are moved by a relative group-valued map.
        rngs: `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int,
        config: EditorConfig,
        *,
        relative: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        build, trunk = (related if relative else covariant), config.trunk(channels)
        self.kept = tuple(leaf.path for leaf in spec.leaves)
        self.waves = layers.WaveFeatures(
            spec,
            config.waves,
            channels,
            rate=config.rate,
            param_dtype=config.param_dtype,
            rngs=rngs,
        )
        spec, width = self.waves.spec, self.waves.channels
        self.layers = nnx.Dict()
        for number in range(config.depth):
            self.layers[f"{number:02d}"] = build(spec, width, trunk, rngs)
            width = channels
        self.head = layers.MonomialLinear(
            spec,
            width,
            1,
            max_fixed=config.max_fixed,
            param_dtype=config.param_dtype,
            rngs=rngs,
        )

    def __call__(self, leaves: Leaves, known: dict[str, Array]) -> Leaves:
        """Returns changes `[*leaf.view]`; `known` is not read."""
        del known
        feats = self.waves(leaves)
        for name in sorted(self.layers):
            feats = self.layers[name](feats)
        changes = self.head(feats)
        return {path: changes[path][..., 0] for path in self.kept}


class SignedChanges(nnx.Module):
    """Units with odd and even features, then products of those at the ends of a leaf.

    An entry changes by `sum_r prod_ends (A_end u_end)_r`, with `u` odd at the ends with
    which the entry flips and even at the others, and by itself times such a sum of even
    features. Even features know of the whole network: of the means of all, and of the
    leaves of no units.

    Args:
        spec: of the features; of signs and permutations.
        channels: odd and even features of a unit, `C` each.
        config: of the editor.
        rngs: `params` is used.

    Raises:
        ValueError: if other groups act, or heads do not divide the channels.
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int,
        config: EditorConfig,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        others = [s for s in spec.spaces if s.group not in ("sign", "permutation")]
        if others:
            raise ValueError(
                f"Editor(quasi='signed'): expected units that permute and flip, got "
                f"{others[0].name!r} of the group {others[0].group!r}. Use 'strict', "
                f"'relative' or 'canonical'."
            )
        self.spec, self.rank = spec, config.rank
        self.waves = layers.InputWaves(
            spec,
            config.waves,
            rate=config.rate,
            param_dtype=config.param_dtype,
            rngs=rngs,
        )
        self.units = layers.SignedTransport(
            self.waves.spec,
            channels,
            hidden=config.hidden,
            depth=config.depth,
            heads=config.heads,
            param_dtype=config.param_dtype,
            rngs=rngs,
        )
        dtype = config.param_dtype

        def draw(width: int) -> nnx.Param:
            # No bias: odd features have none, and even ones bring their own.
            x = jax.random.normal(rngs.params(), (channels, width), dtype)
            return nnx.Param(x / math.sqrt(channels))

        def dense(fan_in: int, fan_out: int) -> nnx.Linear:
            return layers.linear(fan_in, fan_out, param_dtype=dtype, rngs=rngs)

        self.still = tuple(x for x in spec.leaves if not layers.ports_of(spec, x))
        seen = self.units.size + sum(leaf.size for leaf in self.still)
        self.globe = dense(seen, channels)
        self.told = nnx.Dict({s.name: dense(channels, channels) for s in spec.spaces})
        self.whole, self.ends, self.gates = nnx.Dict(), nnx.Dict(), nnx.Dict()
        for leaf in spec.leaves:
            key, folded = key_of(leaf.path), leaf.folded
            ports = layers.ports_of(spec, leaf)
            if not ports:
                self.whole[key] = dense(channels, folded)
            # The folded entries belong to the first end, the others only have a rank.
            for number, port in enumerate(ports):
                width = self._rank(len(ports)) * (1 if number else folded)
                name = f"{key}[{port.position}]"
                self.ends[name], self.gates[name] = draw(width), draw(width)

    def __call__(self, leaves: Leaves, known: dict[str, Array]) -> Leaves:
        """Returns changes `[*leaf.view]`; `known` is not read."""
        del known
        nodes = self.units(self.waves(leaves))
        still = [leaves[leaf.path].reshape(-1) for leaf in self.still]
        seen = jnp.concatenate([layers.pool_signed(nodes), *still])
        globe = jax.nn.silu(self.globe(seen))
        nodes = {
            name: layers.Signed(both.odd, both.even + self.told[name](globe)[None])
            for name, both in nodes.items()
        }
        return {
            leaf.path: self._change(leaf, leaves[leaf.path], nodes, globe)
            for leaf in self.spec.leaves
        }

    def _rank(self, ends: int) -> int:
        return self.rank if ends > 1 else 1

    def _change(
        self, leaf: Leaf, x: Array, nodes: dict[str, layers.Signed], globe: Array
    ) -> Array:
        key, ports = key_of(leaf.path), layers.ports_of(self.spec, leaf)
        if not ports:
            return self.whole[key](globe).reshape(leaf.view)
        rank, folded = self._rank(len(ports)), leaf.folded
        total: Array | float = 1.0
        gate: Array | float = 1.0
        for number, port in enumerate(ports):
            name, both = f"{key}[{port.position}]", nodes[port.space]
            sizes = [1] * len(ports)
            sizes[number] = both.even.shape[0]
            shape = (*sizes, 1 if number else folded, rank)
            own = both.odd if port.odd else both.even
            total = total * _times(own, self.ends[name]).reshape(shape)
            gate = gate * _times(both.even, self.gates[name]).reshape(shape)
        moved = [port.position for port in ports]
        order = (*moved, *leaf.fixed())
        flat = x.transpose(order).reshape(*(leaf.view[p] for p in moved), folded)
        change = jnp.sum(jnp.asarray(total), -1)
        change = change + flat * jnp.sum(jnp.asarray(gate), -1)
        return _unfolded(leaf, order, change / math.sqrt(rank))


class GraphChanges(nnx.Module):
    """Messages between the units of a normal form, then a linear map per leaf.

    Args:
        spec: of the features.
        channels: of nodes, edges and globe, `C`.
        known: number of further numbers that are known of the whole network.
        config: of the editor.
        rngs: `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int,
        known: int,
        config: EditorConfig,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.graph = layers.graph_of(spec.permutations_only())
        options: dict[str, Any] = {"param_dtype": config.param_dtype, "rngs": rngs}
        extra = {name: known for name, _ in self.graph.nodes} if known else {}
        self.waves = layers.InputWaves(
            self.graph.spec, config.waves, rate=config.rate, **options
        )
        for end, width in self.waves.width.items():
            extra[end] = extra.get(end, 0) + width
        self.known = known
        self.mix = layers.MessageStack(
            self.graph, channels, depth=config.depth, extra=extra, **options
        )
        self.head = nnx.Dict(
            {
                key_of(i.path): layers.linear(channels, i.folded, **options)
                for i in self.graph.incidences
            }
        )

    def __call__(self, leaves: Leaves, known: dict[str, Array]) -> Leaves:
        """Returns changes `[*leaf.view]` of units that permute.

        Args:
            leaves: of a normal form, by path, each of about unit size; cut off at 6.
            known: further numbers of the network, by name.
        """
        # Grouped heads have one axis more where matrices act than units have here.
        leaves = {
            leaf.path: jnp.clip(leaves[leaf.path].reshape(leaf.view), -CLIP, CLIP)
            for leaf in self.graph.spec.leaves
        }
        graph = layers.arrange(self.graph, leaves)
        mixed = self.mix(graph, self._extra(leaves, known))
        return {i.path: self._change(i, mixed) for i in self.graph.incidences}

    def _extra(self, leaves: Leaves, known: dict[str, Array]) -> dict[str, Array]:
        parts: dict[str, list[Array]] = {name: [] for name, _ in self.graph.nodes}
        if self.known:
            row = jnp.stack([known[name] for name in sorted(known)])
            for name, size in self.graph.nodes:
                parts[name].append(jnp.broadcast_to(row[None], (size, self.known)))
        for name, x in self.waves.of_units(leaves).items():
            parts[name].append(x)
        return {name: jnp.concatenate(xs, -1) for name, xs in parts.items() if xs}

    def _change(self, incidence: Incidence, mixed: layers.GraphFeatures) -> Array:
        ends = incidence.ends
        if len(ends) > 1:
            x = mixed.edges[incidence.path]
        else:
            x = mixed.nodes[ends[0]] if ends else mixed.globe
        flat = self.head[key_of(incidence.path)](layers.layer_norm(x))
        leaf = self.graph.spec.leaf_by_path[incidence.path]
        return _unfolded(leaf, incidence.order, flat)


def _times(x: Array, weight: nnx.Param) -> Array:
    return x @ weight[...].astype(x.dtype)


def _unfolded(leaf: Leaf, order: tuple[int, ...], flat: Array) -> Array:
    """The view of a leaf, from one whose axes come in `order`, the last ones flat."""
    x = flat.reshape([leaf.view[p] for p in order])
    return x.transpose([order.index(p) for p in range(len(order))])
