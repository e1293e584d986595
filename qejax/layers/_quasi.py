"""Quasi-equivariant layers: an equivariant map, moved along the group."""

from typing import Protocol

import jax
from flax import nnx

from qejax.layers._covariant import feature_template
from qejax.layers._features import Features
from qejax.layers._scales import Scales, act_scales, check_scales
from qejax.spaces import WeightSpec


class Alpha(Protocol):
    """A group-valued map of features; see `_alpha.py`."""

    def __call__(self, feats: Features) -> Scales:
        """Returns `[n_s]` or `[n_s, C']` by scaled unit space."""
        ...


class Beta(Protocol):
    """A strictly equivariant layer, such as `MonomialLinear` or `CovariantStream`."""

    spec: WeightSpec
    in_channels: int
    out_channels: int

    def __call__(self, feats: Features) -> Features:
        """Returns `[*leaf.view, C']` by leaf path."""
        ...


class QuasiEquivariant(nnx.Module):
    """`F(U)_c = alpha_c(U) beta(U)_c`: functions stay equal, weights need not.

    With `alpha` shared by all channels, `F(g U) = h F(U)` for
    `h = alpha(g U) g alpha(U)^-1`; with `alpha` relative, `h = g`. Either way
    functionally equivalent features give functionally equivalent ones.

    One network, no batch axis (batch with `jax.vmap`).

    Args:
        alpha: a module from features to scales, `GaugeAlpha` or `RelativeAlpha`.
        beta: a strictly equivariant layer.

    Raises:
        ValueError: if `alpha` does not return scales of the group of `beta.spec`.

    Source: Tran et al. 2026, arXiv:2604.23720 (the layer `alpha beta`).

    Example:
        >>> from qejax import nets
        >>> from qejax.layers import GaugeAlpha, MonomialLinear, features
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> rngs = nnx.Rngs(0)
        >>> layer = QuasiEquivariant(
        ...     GaugeAlpha(net.spec, 1, rngs=rngs),
        ...     MonomialLinear(net.spec, 1, 8, rngs=rngs),
        ... )
        >>> out = layer(features(net.spec, net.init(jax.random.key(0))))
        >>> out["layer_00/bias"].shape
        (3, 8)
    """

    def __init__(self, alpha: Alpha, beta: Beta) -> None:
        template = feature_template(beta.spec, beta.in_channels)
        scales = jax.eval_shape(alpha.__call__, template)
        check_scales(
            beta.spec, scales, beta.out_channels, "QuasiEquivariant(alpha=...)"
        )
        self.spec = beta.spec
        self.in_channels = beta.in_channels
        self.out_channels = beta.out_channels
        self.alpha = alpha
        self.beta = beta

    def __call__(self, feats: Features) -> Features:
        """Returns `[*leaf.view, C']` by leaf path, for features `[*leaf.view, C]`."""
        return act_scales(self.spec, self.alpha(feats), self.beta(feats))
