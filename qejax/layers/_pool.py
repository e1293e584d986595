"""From features to numbers that no symmetry of the network changes.

`InvariantPool` reads features on which scales and signs still act, `pool_graph`
features that are already invariant to them and only permute.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float
from qejax.layers._bonds import Bonds
from qejax.layers._covariant import feature_template
from qejax.layers._features import Features, check_features
from qejax.layers._graph import GraphFeatures
from qejax.layers._invariants import invariants
from qejax.layers._message_passing import key_of
from qejax.spaces import WeightSpec


def pool_graph(features: GraphFeatures) -> Float[Array, " M"]:
    """Returns mean and deviation over every node set and the mean over every edge set.

    Invariant to permutations of the units. `M = C (2 nodes + edges)`, in the order of
    the features.
    """
    parts = []
    for x in features.nodes.values():
        parts += [jnp.mean(x, 0), jnp.sqrt(jnp.var(x, 0) + 1e-6)]
    parts += [jnp.mean(x, tuple(range(x.ndim - 1))) for x in features.edges.values()]
    return jnp.concatenate(parts)


class InvariantPool(nnx.Module):
    """Maps features to a vector that is invariant to the whole group of the spec.

    `pool(act_features(spec, g, U)) == pool(U)` at any scale. Scales and signs are taken
    out entry by entry (`qejax.layers.invariants`), general linear maps by products
    (`Bonds`); what is left only permutes: a layer on every entry, then mean and root
    mean square over units.

    Args:
        spec: the weight space.
        in_channels: of the features, `C`.
        channels: of the result per leaf.
        probes: as in `Bonds`.
        param_dtype: of the parameters.
        rngs: `params` is used.

    Attributes:
        size: length of the result.
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
        self.spec = spec
        self.in_channels = in_channels
        self.channels = channels
        self.bonds = Bonds(
            spec,
            in_channels,
            probes=probes,
            mix=True,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        leaves = self.bonds.spec.leaves
        template = feature_template(self.bonds.spec, in_channels)
        logs = jax.eval_shape(
            lambda f: invariants(self.bonds.spec, f).log_size, template
        )
        self.size = 2 * channels * len(leaves) + logs.shape[0]
        self.entry = nnx.Dict()
        for leaf in leaves:
            fixed = math.prod(leaf.axes[p].size for p in leaf.fixed())
            self.entry[key_of(leaf.path)] = nnx.Linear(
                fixed * in_channels, channels, param_dtype=param_dtype, rngs=rngs
            )

    def __call__(self, feats: Features) -> Float[Array, " M"]:
        """Returns the vector `[size]`.

        Args:
            feats: by leaf path, `[*leaf.view, C]`.

        Raises:
            ValueError: if the features do not fit the spec or the channels.
        """
        check_features(self.spec, feats, self.in_channels, "InvariantPool")
        found = invariants(self.bonds.spec, self.bonds(feats))
        parts = [found.log_size]
        for leaf in self.bonds.spec.leaves:
            moved = leaf.moved()
            x = found.entries[leaf.path]
            x = x.transpose(*moved, *leaf.fixed(), len(leaf.axes))
            x = x.reshape(*(leaf.axes[p].size for p in moved), -1)
            x = jax.nn.silu(self.entry[key_of(leaf.path)](x))
            x = x.reshape(-1, self.channels)
            parts += [jnp.mean(x, 0), jnp.sqrt(jnp.mean(x * x, 0) + 1e-6)]
        return jnp.concatenate(parts)
