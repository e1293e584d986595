"""The trunk that keeps signs: message passing with odd and even features."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax import layers
from qejax._typing import Array, Leaves, Theta
from qejax.groups import GROUPS
from qejax.models._leaf_scale import LeafScale
from qejax.spaces import Canonical, WeightSpec, views

CLIP = 6.0


class SignedTrunk(nnx.Module):
    """`SignedTransport` over settled weights with scales fixed, then a pool.

    Nothing depends on how a normal form chooses signs, so that features are continuous
    in the weights where those jump. Where matrices act, as inside heads, the normal
    form chooses signs with the basis, and all features are even.

    Args:
        spec: of settled weights.
        channels: odd and even features of a unit, `C` each; `4 C` inside.
        depth: rounds of messages.
        waves: learned frequencies of matrices that write units and read none; 0 for
            none.
        heads: of attention over units; 0 for plain sums.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int,
        *,
        depth: int = 2,
        waves: int = 0,
        heads: int = 0,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if any(s.per or GROUPS[s.group].monomial is None for s in spec.spaces):
            spec = spec.permutations_only()
        self.spec = spec
        self.scale = LeafScale(spec)
        self.waves = layers.InputWaves(spec, waves, param_dtype=param_dtype, rngs=rngs)
        self.mix = layers.SignedTransport(
            self.waves.spec,
            channels,
            hidden=4 * channels,
            depth=depth,
            heads=heads,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        still = [leaf.size for leaf in spec.leaves if not leaf.moved()]
        self.size = channels * len(spec.spaces) + sum(still)

    def features(self, theta: Theta, normal: Canonical) -> Leaves:
        """Returns the leaves of the normal form; signs may be any."""
        del theta
        return views(self.spec, normal.theta)

    def fit_scale(self, features: Leaves) -> None:
        """Stores the root mean square of every leaf of stacked features."""
        self.scale.fit(features)

    def scaled(self, features: Leaves) -> Leaves:
        """Returns features of unit size, cut off at 6."""
        scaled = self.scale(features)
        return {path: jnp.clip(x, -CLIP, CLIP) for path, x in scaled.items()}

    def __call__(self, features: Leaves, extra: dict[str, Array]) -> Array:
        """Returns `[size]`; `extra` is not read."""
        del extra
        nodes = self.mix(self.waves(features))
        pooled = layers.layer_norm(layers.pool_signed(nodes))
        still = [
            features[leaf.path].reshape(-1)
            for leaf in self.spec.leaves
            if not leaf.moved()
        ]
        return jnp.concatenate([pooled, *still])
