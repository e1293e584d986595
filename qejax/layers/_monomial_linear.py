"""The strictly equivariant linear layer between weight spaces."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax.layers import _engine
from qejax.layers._features import Features, check_features
from qejax.layers._terms import tie_fixed
from qejax.spaces import WeightSpec


class MonomialLinear(nnx.Module):
    """Affine map of features that commutes with the whole group of `spec`.

    `layer(act_features(spec, g, U)) == act_features(spec, g, layer(U))` for every `g`.
    With both bounds at `None` it is the most general such map: the layer of
    Monomial-NFN for scales and signs, of NP/HNP-NFN for permutations.

    One network, no batch axis (batch with `jax.vmap`). Features are
    `{path: [*leaf.view, C]}`; results have the dtype of the features.

    Args:
        spec: the weight space, with its groups.
        in_channels: `C`.
        out_channels: `C'`.
        max_fixed: fixed axes longer than this are read by their mean and written
            alike at all positions, in addition to position by position with equal
            weights; `None` mixes all positions freely, at `size^2 C C'` parameters.
        max_rank: bound on the rank of the channel mixing; `None` for none. A layer of
            convolution kernels has `(k^2 C)^2` parameters without, `2 k^2 C r` with.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.

    Raises:
        ValueError: if a number of channels or a bound is below 1.

    Source: Tran et al. 2024, arXiv:2409.11697 (scales and signs); Zhou et al.
    2023, arXiv:2302.14040 (permutations).

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> from qejax.layers import features
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> layer = MonomialLinear(net.spec, 1, 8, rngs=nnx.Rngs(0))
        >>> out = layer(features(net.spec, net.init(jax.random.key(0))))
        >>> out["layer_00/kernel"].shape
        (4, 3, 8)
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
        sizes = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "max_fixed": max_fixed,
            "max_rank": max_rank,
        }
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(
                    f"MonomialLinear({name}=...) should be at least 1, got {size}."
                )
        self.spec = spec
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.tied = tie_fixed(spec, max_fixed)
        weights = _engine.init_weights(
            rngs.params(), self.tied, in_channels, out_channels, max_rank, param_dtype
        )
        self.mix = nnx.Dict(
            {
                name: nnx.Dict({k: nnx.Param(w) for k, w in arrays.items()})
                for name, arrays in weights.items()
            }
        )

    def __call__(self, feats: Features) -> Features:
        """Returns `[*leaf.view, C']` by leaf path, for features `[*leaf.view, C]`.

        Raises:
            ValueError: if the features do not fit the spec or the channels.
        """
        check_features(self.spec, feats, self.in_channels, "MonomialLinear")
        weights = {
            name: {k: w[...] for k, w in arrays.items()}
            for name, arrays in self.mix.items()
        }
        return _engine.apply(self.tied, weights, feats, self.out_channels)
