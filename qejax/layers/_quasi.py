"""Quasi-equivariant layers: an equivariant map, moved along the group."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

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
        alpha: a module from features to scales, `GaugeAlpha` or `RelativeAlpha`; with
            `rngs`, also a factory of one, `rngs=... -> module`.
        beta: a strictly equivariant layer, or likewise a factory of one.
        rngs: given to factories, `alpha`'s first; modules are copied then, so that
            `nnx.bridge.to_linen(QuasiEquivariant, alpha, beta)` works with either.

    Raises:
        ValueError: if `alpha` does not return scales of the group of `beta.spec`, or
            if one of them is a factory and there is no `rngs`.

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

    def __init__(
        self,
        alpha: Alpha | Callable[..., Alpha],
        beta: Beta | Callable[..., Beta],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.alpha: Alpha = _built(alpha, rngs, "alpha")
        self.beta: Beta = _built(beta, rngs, "beta")
        self.spec = self.beta.spec
        self.in_channels = self.beta.in_channels
        self.out_channels = self.beta.out_channels
        template = feature_template(self.spec, self.in_channels)
        scales = jax.eval_shape(self.alpha.__call__, template)
        check_scales(
            self.spec, scales, self.out_channels, "QuasiEquivariant(alpha=...)"
        )

    def __call__(self, feats: Features) -> Features:
        """Returns `[*leaf.view, C']` by leaf path, for features `[*leaf.view, C]`."""
        return act_scales(self.spec, self.alpha(feats), self.beta(feats))


def _built(part: Any, rngs: nnx.Rngs | None, what: str) -> Any:
    """The module itself, a copy of it that belongs to this trace, or a new one."""
    if rngs is not None:
        return nnx.clone(part) if isinstance(part, nnx.Module) else part(rngs=rngs)
    if isinstance(part, type | functools.partial):
        raise ValueError(
            f"QuasiEquivariant({what}=...): expected a module, got a factory and no "
            f"rngs to call it with. Pass rngs=..., or build the module first."
        )
    return part
