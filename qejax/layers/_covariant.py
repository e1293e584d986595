"""Features gated by their own invariants: the nonlinearity that scales and signs allow.

An elementwise nonlinearity commutes with permutations only. Multiplying features by
functions of invariants commutes with everything: `x * phi(invariants)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float
from qejax.layers._bonds import Bonds
from qejax.layers._features import Features, check_features
from qejax.layers._invariants import (
    collapse,
    collapsed_spec,
    global_invariants,
    invariants,
    unit_invariants,
)
from qejax.layers._linear import linear
from qejax.layers._monomial_linear import MonomialLinear
from qejax.spaces import Leaf, WeightSpec


def feature_template(
    spec: WeightSpec, channels: int, dtype: DTypeLike = jnp.float32
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of features of `spec`."""
    return {
        leaf.path: jax.ShapeDtypeStruct((*leaf.view, channels), dtype)
        for leaf in spec.leaves
    }


class Read(NamedTuple):
    """Learned invariants of one network.

    Attributes:
        entries: by path of the leaves and of products in the place of those that
            matrices move, `[*sizes of moved axes, 2 C]`; not learned.
        units: by unit space, `[n_s, H]`, or `[m, n_s, H]` of a space per another one.
        globe: `[H]`, of the network.
    """

    entries: Features
    units: dict[str, Array]
    globe: Float[Array, " H"]


class InvariantUnits(nnx.Module):
    """Learned invariants of units and of the network, from features.

    What general linear maps move is replaced by products (`Bonds`). Axes that never
    move are first reduced to means and mean magnitudes, so that only one pass is made
    over the features; then two small dense layers read what `unit_invariants` and
    `global_invariants` collect. Permutations move the units;
    scales and signs change nothing.

    Args:
        spec: the weight space.
        in_channels: `C` of the features.
        channels: of the results, `H`.
        probes: as in `Bonds`.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        channels: int,
        *,
        probes: int = 8,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.channels = channels
        options = {"param_dtype": param_dtype, "rngs": rngs}
        self.bonds = Bonds(spec, in_channels, probes=probes, mix=True, **options)
        self.spec = self.bonds.spec
        template = feature_template(spec, in_channels)
        _, units, globe = jax.eval_shape(self._collect, template)
        self.globe = linear(globe.shape[0], channels, **options)
        self.units = nnx.Dict(
            {
                name: linear(x.shape[-1] + channels, channels, **options)
                for name, x in units.items()
            }
        )

    def _collect(self, feats: Features) -> tuple[Features, dict[str, Array], Array]:
        small = collapsed_spec(self.spec)
        found = invariants(small, collapse(self.spec, self.bonds(feats)))
        units = unit_invariants(small, found)
        return found.entries, units, global_invariants(small, found)

    def __call__(self, feats: Features) -> Read:
        """Returns the invariants of features `[*leaf.view, C]`; see `Read`."""
        entries, raw, raw_globe = self._collect(feats)
        globe = jax.nn.silu(self.globe(raw_globe))
        units = {}
        for name, x in raw.items():
            beside = jnp.broadcast_to(globe, (*x.shape[:-1], self.channels))
            both = jnp.concatenate([x, beside], -1)
            units[name] = jax.nn.silu(self.units[name](both))
        return Read(entries, units, globe)


class CovariantStream(nnx.Module):
    """Strictly equivariant, nonlinear: `linear(x) * phi(invariants of x)`.

    `linear` is a `MonomialLinear`. The gate of an entry lies in `(0, 2)` and reads the
    invariants of that entry, of the units at its ends and of the network; positions
    along axes that never move share it, and so do those along axes that matrices move,
    where an entry alone has no invariant. It is 1 where all of them are zero.

    One network, no batch axis (batch with `jax.vmap`); dtype of the features.

    Args:
        spec: the weight space, with its groups.
        in_channels: `C`.
        out_channels: `C'`.
        max_fixed: as in `MonomialLinear`.
        max_rank: as in `MonomialLinear`.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.

    Example:
        >>> from qejax import nets
        >>> from qejax.layers import features
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> layer = CovariantStream(net.spec, 1, 8, rngs=nnx.Rngs(0))
        >>> out = layer(features(net.spec, net.init(jax.random.key(0))))
        >>> out["layer_01/bias"].shape
        (2, 8)
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        out_channels: int,
        *,
        max_fixed: int | None = None,
        max_rank: int | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.spec = spec
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.linear = MonomialLinear(
            spec,
            in_channels,
            out_channels,
            max_fixed=max_fixed,
            max_rank=max_rank,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        options = {"param_dtype": param_dtype, "rngs": rngs}
        width = out_channels
        self.read = InvariantUnits(spec, in_channels, width, **options)
        self.entry, self.units = nnx.Dict(), nnx.Dict()
        # One product for the gates of all leaves, where nothing moves.
        self.globe = linear(width, width * len(spec.leaves), **options)
        kept = self.read.spec.leaf_by_path
        for leaf in spec.leaves:
            key = leaf.path.replace("/", ".")
            if leaf.path in kept:
                self.entry[key] = linear(2 * in_channels, width, **options)
            for position in self._gated(leaf):
                self.units[f"{key}[{position}]"] = linear(width, width, **options)

    def __call__(self, feats: Features) -> Features:
        """Returns `[*leaf.view, C']` by leaf path, for features `[*leaf.view, C]`.

        Raises:
            ValueError: if the features do not fit the spec or the channels.
        """
        check_features(self.spec, feats, self.in_channels, "CovariantStream")
        found = self.read(feats)
        globes = jnp.split(self.globe(found.globe), len(self.spec.leaves))
        mixed = self.linear(feats)
        return {
            leaf.path: mixed[leaf.path] * self._gate(leaf, found, globe)
            for leaf, globe in zip(self.spec.leaves, globes, strict=True)
        }

    def _gated(self, leaf: Leaf) -> tuple[int, ...]:
        """Axes whose units have invariants."""
        known = self.read.spec.space_by_name
        return tuple(p for p in leaf.moved() if leaf.axes[p].space in known)

    def _gate(self, leaf: Leaf, found: Read, globe: Float[Array, " H"]) -> Array:
        """Returns the gate of a leaf, `[*leaf.view, C']` with 1 for fixed axes."""
        key, moved = leaf.path.replace("/", "."), self._gated(leaf)
        gate = globe.reshape([1] * len(moved) + [-1])
        if key in self.entry:
            gate = self.entry[key](found.entries[leaf.path]) + gate
        for position in moved:
            axis, host = leaf.axes[position], self.spec.per_axis(leaf, position)
            shape = [1] * len(moved) + [self.out_channels]
            for place in (position,) if host is None else (host, position):
                shape[moved.index(place)] = leaf.axes[place].size
            part = self.units[f"{key}[{position}]"](found.units[str(axis.space)])
            gate = gate + part.reshape(shape)
        sizes = [n if p in moved else 1 for p, n in enumerate(leaf.view)]
        full = [leaf.view[p] for p in moved]
        gate = jnp.broadcast_to(gate, (*full, self.out_channels))
        return 2 * jax.nn.sigmoid(gate).reshape(*sizes, self.out_channels)
