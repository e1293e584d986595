"""From exact features of one network to a vector of learned invariants, by kind.

`TRUNKS` is the table of `Predictor(quasi=...)`. The kinds on raw weights stack strictly
or quasi-equivariant layers and end in an `InvariantPool`; those on the normal form pass
messages, and need to respect permutations only. "signed" reads the normal form too, but
respects the signs that it chose.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax import layers
from qejax._typing import Array, Leaves, Theta
from qejax.layers import Features, GraphFeatures
from qejax.models._leaf_scale import LeafScale
from qejax.models._signed_trunk import CLIP, SignedTrunk
from qejax.spaces import Canonical, WeightSpec, balanced, restore, views

Quasi = Literal["strict", "gauge", "relative", "canonical", "learned_gauge", "signed"]
"""Which group elements may differ between what comes in and what goes out."""


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of a trunk.

    Attributes:
        channels: `C`.
        depth: layers, or rounds of messages.
        mixer: how messages pass: "transport" (nodes only, fast) or "messages"
            (nodes and edges).
        rank: edge features of "transport".
        carried: channels sent along an edge of "transport".
        max_fixed: as in `MonomialLinear`.
        eps: of group-valued maps.
        waves: frequencies of matrices that write units and read none, such as those
            that read inputs; 0 for none. See `qejax.layers.InputWaves`.
        heads: of attention over units, of "signed"; 0 for plain sums.
        extra: further channels of nodes, as sorted pairs.
        normal: whether kinds on raw weights are given a normal form of them.
        param_dtype: of the parameters.
    """

    channels: int = 32
    depth: int = 2
    mixer: Literal["transport", "messages"] = "transport"
    rank: int = 4
    carried: int = 8
    max_fixed: int | None = 16
    eps: float = 0.5
    waves: int = 0
    heads: int = 0
    extra: tuple[tuple[str, int], ...] = ()
    normal: bool = False
    param_dtype: DTypeLike = jnp.float32


class Trunk(Protocol):
    """Exact features and what is learned from them."""

    size: int

    def features(self, theta: Theta, normal: Canonical) -> Any:
        """Returns exact features of one network; nothing trained, nothing fitted.

        Args:
            theta: settled weights.
            normal: the normal form, leaves of settled weights only.
        """
        ...

    def fit_scale(self, features: Any) -> None:
        """Stores constants measured on stacked features `[B, ...]`."""
        ...

    def scaled(self, features: Any) -> Any:
        """Returns features with the constants applied, still exact."""
        ...

    def __call__(self, features: Any, extra: dict[str, Array]) -> Array:
        """Returns `[size]`."""
        ...


class LayerTrunk(nnx.Module):
    """Waves, a stack of equivariant layers on raw weights, then an invariant pool."""

    def __init__(
        self,
        spec: WeightSpec,
        config: TrunkConfig,
        wrap: Callable[..., nnx.Module],
        rngs: nnx.Rngs,
    ) -> None:
        self.spec, self.normal = spec, config.normal
        self.scale = LeafScale(spec)
        self.waves = layers.WaveFeatures(
            spec,
            config.waves,
            config.channels,
            param_dtype=config.param_dtype,
            rngs=rngs,
        )
        spec, width = self.waves.spec, self.waves.channels
        self.layers = nnx.Dict()
        for number in range(config.depth):
            self.layers[f"{number:02d}"] = wrap(spec, width, config, rngs)
            width = config.channels
        self.pool = layers.InvariantPool(
            spec, width, config.channels, param_dtype=config.param_dtype, rngs=rngs
        )
        self.size = self.pool.size

    def features(self, theta: Theta, normal: Canonical) -> Leaves:
        """Returns the settled weights, heads balanced.

        Any point of the orbit would do in real numbers; in float32 the products of
        badly conditioned heads are rounding. Where products are rounded to fewer
        digits, it is the point that all of the orbit shares but for an order.
        """
        if self.normal:
            return views(self.spec, restore(self.spec, normal))
        return views(self.spec, balanced(self.spec, theta))

    def fit_scale(self, features: Leaves) -> None:
        """Stores the sizes of leaves, for waves; the rest brings its own norms."""
        if self.waves.added:
            self.scale.fit(features)

    def scaled(self, features: Leaves) -> Leaves:
        """Returns features of unit size if there are waves, else as they are."""
        return self.scale(features)

    def __call__(self, features: Leaves, extra: dict[str, Array]) -> Array:
        """Returns `[size]`; `extra` is not read."""
        del extra
        feats = self.waves(features)
        for name in sorted(self.layers):
            feats = self.layers[name](feats)
        return layers.layer_norm(self.pool(feats))


class Arranged(NamedTuple):
    """What a `GraphTrunk` reads of one network.

    Attributes:
        graph: the normal form.
        read: its leaves that are read at frequencies, as they are, by path.
    """

    graph: GraphFeatures
    read: Leaves


class GraphTrunk(nnx.Module):
    """Message passing over the normal form, optionally at a learned point of its orbit.

    With a gauge, the scales that the normal form took out are put back as functions of
    the invariants: exact, and visible to what follows.
    """

    def __init__(
        self,
        spec: WeightSpec,
        config: TrunkConfig,
        gauge: layers.LearnedGauge | None,
        rngs: nnx.Rngs,
    ) -> None:
        self.spec = spec
        self.graph = layers.graph_of(spec.permutations_only())
        self.alpha: layers.LearnedGauge | None = nnx.data(gauge)
        self.waves = layers.InputWaves(
            self.graph.spec, config.waves, param_dtype=config.param_dtype, rngs=rngs
        )
        self.leaf_scale = LeafScale(self.graph.spec)
        shapes = jax.eval_shape(self._arranged, spec.template()).graph
        self.scale = nnx.Dict()
        for part, leaves in (("nodes", shapes.nodes), ("edges", shapes.edges)):
            self.scale[part] = nnx.Dict(
                {
                    layers.key_of(name): layers.Frozen(
                        jnp.ones(x.shape[-1], jnp.float32)
                    )
                    for name, x in leaves.items()
                }
            )
        wide = dict(config.extra)
        for name, width in self.waves.width.items():
            wide[name] = wide.get(name, 0) + width
        options = {
            "extra": wide,
            "param_dtype": config.param_dtype,
            "rngs": rngs,
        }
        if config.mixer == "transport":
            self.mix: nnx.Module = layers.Transport(
                self.graph,
                config.channels,
                rank=config.rank,
                carried=config.carried,
                depth=config.depth,
                **options,
            )
        else:
            self.mix = layers.MessageStack(
                self.graph, config.channels, depth=config.depth, **options
            )
        pooled = 2 * len(self.graph.nodes)
        pooled += len(self.graph.edges) if config.mixer == "messages" else 0
        self.size = pooled * config.channels

    def features(self, theta: Theta, normal: Canonical) -> Any:
        """Returns the normal form, as a graph unless a gauge moves it first."""
        del theta
        if self.alpha is not None:
            return layers.features(self.spec, normal.theta)
        return self._arranged(normal.theta)

    def fit_scale(self, features: Any) -> None:
        """Stores the root mean square of every channel of the normal form."""
        if self.alpha is not None:
            features = jax.vmap(self._from_features)(features)
        self.leaf_scale.fit(features.read)
        for part in ("nodes", "edges"):
            for name, x in getattr(features.graph, part).items():
                square = jnp.mean(x**2, tuple(range(x.ndim - 1)))
                root = jnp.sqrt(jnp.where(square > 0, square, 1)).astype(jnp.float32)
                self.scale[part][layers.key_of(name)].set_value(root)

    def scaled(self, features: Any) -> Any:
        """Returns features of unit size, cut off at 6; with a gauge, as they are."""
        return features if self.alpha is not None else self._scaled(features)

    def __call__(self, features: Any, extra: dict[str, Array]) -> Array:
        """Returns `[size]`."""
        if self.alpha is not None:
            features = self._scaled(self._from_features(self.alpha(features)))
        wide = dict(extra)
        for name, x in self.waves.of_units(features.read).items():
            wide[name] = jnp.concatenate([wide[name], x], -1) if name in wide else x
        mixed = self.mix(features.graph, wide)
        return layers.layer_norm(layers.pool_graph(mixed))

    def _arranged(self, theta: Theta) -> Arranged:
        return self._of_leaves(views(self.graph.spec, theta))

    def _from_features(self, features: Features) -> Arranged:
        return self._of_leaves(
            {
                leaf.path: features[leaf.path][..., 0].reshape(leaf.view)
                for leaf in self.graph.spec.leaves
            }
        )

    def _of_leaves(self, leaves: Leaves) -> Arranged:
        read = {leaf.path: leaves[leaf.path] for leaf in self.waves.read}
        return Arranged(layers.arrange(self.graph, leaves), read)

    def _scaled(self, features: Arranged) -> Arranged:
        def apply(part: str, leaves: dict[str, Array]) -> dict[str, Array]:
            scaled = {}
            for name, x in leaves.items():
                scale = self.scale[part][layers.key_of(name)][...].astype(x.dtype)
                shape = [1] * (x.ndim - 1) + [-1]
                scaled[name] = jnp.clip(x / scale.reshape(shape), -CLIP, CLIP)
            return scaled

        read = {
            path: jnp.clip(x, -CLIP, CLIP)
            for path, x in self.leaf_scale(features.read).items()
        }
        graph = features.graph
        scaled = apply("nodes", graph.nodes), apply("edges", graph.edges)
        return Arranged(GraphFeatures(*scaled, graph.globe), read)


def check_heads(heads: int, quasi: str, who: str) -> None:
    """Raises if a kind is asked for heads that it would not use.

    Raises:
        ValueError: names the kind, and what to do.
    """
    if heads and quasi != "signed":
        raise ValueError(
            f"{who}(config.heads={heads}): expected heads of the kind 'signed' alone, "
            f"got {quasi!r}. Pass heads=0, or quasi='signed'."
        )


def covariant(
    spec: WeightSpec, width: int, config: TrunkConfig, rngs: nnx.Rngs
) -> layers.CovariantStream:
    """Returns one strict layer from `width` channels."""
    return layers.CovariantStream(
        spec,
        width,
        config.channels,
        max_fixed=config.max_fixed,
        param_dtype=config.param_dtype,
        rngs=rngs,
    )


def _gauged(
    spec: WeightSpec, width: int, config: TrunkConfig, rngs: nnx.Rngs
) -> nnx.Module:
    alpha = layers.GaugeAlpha(
        spec, width, eps=config.eps, param_dtype=config.param_dtype, rngs=rngs
    )
    return layers.QuasiEquivariant(alpha, covariant(spec, width, config, rngs))


def related(
    spec: WeightSpec, width: int, config: TrunkConfig, rngs: nnx.Rngs
) -> nnx.Module:
    """Returns one strict layer, moved by a relative group-valued map."""
    alpha = layers.RelativeAlpha(
        spec,
        width,
        config.channels,
        eps=config.eps,
        param_dtype=config.param_dtype,
        rngs=rngs,
    )
    return layers.QuasiEquivariant(alpha, covariant(spec, width, config, rngs))


def _learned(spec: WeightSpec, config: TrunkConfig, rngs: nnx.Rngs) -> GraphTrunk:
    gauge = layers.LearnedGauge(
        spec, 1, eps=config.eps, param_dtype=config.param_dtype, rngs=rngs
    )
    return GraphTrunk(spec, config, gauge, rngs)


def _signed(spec: WeightSpec, config: TrunkConfig, rngs: nnx.Rngs) -> SignedTrunk:
    return SignedTrunk(
        spec,
        config.channels,
        depth=config.depth,
        waves=config.waves,
        heads=config.heads,
        param_dtype=config.param_dtype,
        rngs=rngs,
    )


@dataclass(frozen=True)
class TrunkRow:
    """One kind of predictor.

    Attributes:
        build: `(spec, config, rngs) -> trunk`.
        normal: whether it reads the normal form, and by default its statistics.
        units: whether it reads further features of units.
    """

    build: Callable[[WeightSpec, TrunkConfig, nnx.Rngs], Trunk]
    normal: bool
    units: bool = False


TRUNKS: dict[str, TrunkRow] = {
    "strict": TrunkRow(lambda s, c, r: LayerTrunk(s, c, covariant, r), normal=False),
    "gauge": TrunkRow(lambda s, c, r: LayerTrunk(s, c, _gauged, r), normal=False),
    "relative": TrunkRow(lambda s, c, r: LayerTrunk(s, c, related, r), normal=False),
    "canonical": TrunkRow(lambda s, c, r: GraphTrunk(s, c, None, r), True, units=True),
    "learned_gauge": TrunkRow(_learned, normal=True, units=True),
    "signed": TrunkRow(_signed, normal=True),
}
"""By `Quasi`."""
