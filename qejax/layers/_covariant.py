"""Features gated by their own invariants: the nonlinearity that scales and signs allow.

An elementwise nonlinearity commutes with permutations only. Multiplying features by
functions of invariants commutes with everything: `x * phi(invariants)`.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float
from qejax.layers._features import Features, check_features
from qejax.layers._invariants import (
    Invariants,
    global_invariants,
    invariants,
    unit_invariants,
)
from qejax.layers._linear import linear
from qejax.layers._monomial_linear import MonomialLinear
from qejax.spaces import WeightSpec


def feature_template(
    spec: WeightSpec, channels: int, dtype: DTypeLike = jnp.float32
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of features of `spec`."""
    return {
        leaf.path: jax.ShapeDtypeStruct((*leaf.view, channels), dtype)
        for leaf in spec.leaves
    }


class InvariantUnits(nnx.Module):
    """Learned invariants of units and of the network, from features.

    Two small dense layers on what `unit_invariants` and `global_invariants` collect.
    Permutations move the units; scales and signs change nothing.

    Args:
        spec: the weight space.
        in_channels: `C` of the features.
        channels: of the results, `H`.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        channels: int,
        *,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.spec = spec
        self.channels = channels

        def collect(feats: Features) -> tuple[dict[str, Array], Array]:
            found = invariants(spec, feats)
            return unit_invariants(spec, found), global_invariants(spec, found)

        units, globe = jax.eval_shape(collect, feature_template(spec, in_channels))
        options = {"param_dtype": param_dtype, "rngs": rngs}
        self.globe = linear(globe.shape[0], channels, **options)
        self.units = nnx.Dict(
            {
                name: linear(x.shape[1] + channels, channels, **options)
                for name, x in units.items()
            }
        )

    def __call__(self, found: Invariants) -> tuple[dict[str, Array], Array]:
        """Returns units `[n_s, H]` by space, and the network `[H]`.

        Args:
            found: the invariants of the features.
        """
        globe = jax.nn.silu(self.globe(global_invariants(self.spec, found)))
        units = {}
        for name, x in unit_invariants(self.spec, found).items():
            beside = jnp.broadcast_to(globe[None], (x.shape[0], self.channels))
            both = jnp.concatenate([x, beside], -1)
            units[name] = jax.nn.silu(self.units[name](both))
        return units, globe


class CovariantStream(nnx.Module):
    """Strictly equivariant, nonlinear: `linear(x) * phi(invariants of x)`.

    `linear` is a `MonomialLinear`. The gate of an entry reads the invariants of that
    entry, of the units at its ends and of the network, and lies in `(0, 2)`; it is 1
    where all of them are zero.

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
        self.entry, self.globe, self.units = nnx.Dict(), nnx.Dict(), nnx.Dict()
        for leaf in spec.leaves:
            key = leaf.path.replace("/", ".")
            self.entry[key] = linear(in_channels, width, **options)
            self.globe[key] = linear(width, width, **options)
            for position in leaf.moved():
                self.units[f"{key}[{position}]"] = linear(width, width, **options)

    def __call__(self, feats: Features) -> Features:
        """Returns `[*leaf.view, C']` by leaf path, for features `[*leaf.view, C]`.

        Raises:
            ValueError: if the features do not fit the spec or the channels.
        """
        check_features(self.spec, feats, self.in_channels, "CovariantStream")
        found = invariants(self.spec, feats)
        units, globe = self.read(found)
        mixed = self.linear(feats)
        return {
            path: x * 2 * jax.nn.sigmoid(self._gate(path, found, units, globe))
            for path, x in mixed.items()
        }

    def _gate(
        self,
        path: str,
        found: Invariants,
        units: dict[str, Array],
        globe: Float[Array, " H"],
    ) -> Array:
        leaf, key = self.spec.leaf_by_path[path], path.replace("/", ".")
        rank = len(leaf.axes)
        gate = self.entry[key](found.entries[path])
        gate = gate + self.globe[key](globe).reshape([1] * rank + [-1])
        for position in leaf.moved():
            name = leaf.axes[position].space
            assert name is not None
            shape = [1] * rank + [self.out_channels]
            shape[position] = leaf.axes[position].size
            gate = gate + self.units[f"{key}[{position}]"](units[name]).reshape(shape)
        return gate
