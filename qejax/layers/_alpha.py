"""Group-valued maps: features in, one scale per unit out.

`GaugeAlpha` is the paper's: from raw statistics, shared by all channels. It is exact,
and no invariant head can see it. `RelativeAlpha` differs between channels and reads
invariants only: exact and visible. `LearnedGauge` moves a canonical form along its
orbit.

Sources: Tran et al. 2026, arXiv:2604.23720 (`GaugeAlpha`); the two others
follow from the classification of all such maps, `alpha_c = kappa gamma_c` with
`kappa` arbitrary and shared, and `gamma_c(g U) = g gamma_c(U) g^-1`.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array
from qejax.layers._conjugation import Conjugation, pair_of
from qejax.layers._covariant import InvariantUnits, Read
from qejax.layers._features import Features, check_features
from qejax.layers._linear import linear
from qejax.layers._scales import Scales, act_scales, linear_spaces, scaled_spaces
from qejax.spaces import UnitSpace, WeightSpec

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of every leaf, read by `GaugeAlpha` beside mean and variance."""

Bound = Literal["sin", "exp"]
"""`1 + eps sin(x)` or `exp(eps x)`: how a number becomes a positive scale."""


def _check_eps(who: str, eps: float, bound: Bound) -> None:
    if not 0 < eps < 1:
        raise ValueError(
            f"{who}(eps=...): scales should be positive and depend on the features, so "
            f"eps should lie in (0, 1), got {eps}."
        )
    if bound not in ("sin", "exp"):
        raise ValueError(f"{who}(bound=...) should be 'sin' or 'exp', got {bound!r}.")


def _positive(x: Array, eps: float, bound: Bound) -> Array:
    return 1 + eps * jnp.sin(x) if bound == "sin" else jnp.exp(eps * x)


class GaugeAlpha(nnx.Module):
    """One group element for all channels, from raw statistics of every leaf.

    Mean, variance and quantiles (0, .25, .5, .75, 1) of each leaf, over entries and
    channels, go through a small MLP to `1 + eps sin(.)` per scaled unit and to
    `I + (eps / d) sin(.)` per head of width `d`, which is invertible: every row of the
    second term sums to less than 1. Permutations and signs stay the identity.
    `g' = alpha(g U) g alpha(U)^-1` is free; the output of equivariant layers with an
    invariant head does not depend on it, so its parameters get a zero gradient there.

    Args:
        spec: the weight space.
        in_channels: `C`; kept to check the features.
        hidden: width of the MLP.
        eps: in `(0, 1)`.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.

    Raises:
        ValueError: if `eps` is not in `(0, 1)`.

    Source: Tran et al. 2026, arXiv:2604.23720 (its group-valued map).
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        *,
        hidden: int = 16,
        eps: float = 0.5,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        _check_eps("GaugeAlpha", eps, "sin")
        self.spec = spec
        self.in_channels = in_channels
        self.eps = eps
        options = {"param_dtype": param_dtype, "rngs": rngs}
        statistics = (2 + len(QUANTILES)) * len(spec.leaves)
        self.hidden = linear(statistics, hidden, **options)
        self.scales = nnx.Dict(
            {s.name: linear(hidden, s.size, **options) for s in scaled_spaces(spec)}
        )
        self.matrices = nnx.Dict(
            {
                s.name: linear(hidden, math.prod(_matrix_shape(spec, s)), **options)
                for s in linear_spaces(spec)
            }
        )

    def __call__(self, feats: Features) -> Scales:
        """Returns `[n_s]` by scaled unit space, matrices by general linear one."""
        check_features(self.spec, feats, self.in_channels, "GaugeAlpha")
        statistics = [_statistics(feats[leaf.path]) for leaf in self.spec.leaves]
        h = jax.nn.silu(self.hidden(jnp.concatenate(statistics)))
        found = {
            name: _positive(read(h), self.eps, "sin")
            for name, read in self.scales.items()
        }
        for space in linear_spaces(self.spec):
            turn = jnp.sin(self.matrices[space.name](h))
            turn = turn.reshape(_matrix_shape(self.spec, space))
            eye = jnp.broadcast_to(jnp.eye(space.size, dtype=turn.dtype), turn.shape)
            found[space.name] = eye + self.eps / space.size * turn
        return found


def _matrix_shape(spec: WeightSpec, space: UnitSpace) -> tuple[int, ...]:
    return (*spec.per_size(space), space.size, space.size)


class RelativeAlpha(nnx.Module):
    """One group element per channel, from invariants of the units.

    `gamma_c[j] = 1 + eps sin(phi_c(n_j))` with `n_j` invariant to scales and signs and
    moved by permutations, so `gamma_c(g U) = g gamma_c(U) g^-1`: a layer multiplied by
    it stays strictly equivariant, and the ratios of channels change, which invariants
    see. Of heads, `gamma_c = I + eps (a_c1 X + a_c2 X^2)` with `X` conjugated by
    changes of basis and of spectral radius at most 1 (`_conjugation.py`), and
    invariant `|a_c1| + |a_c2| < 1`; the identity where no such `X` can be made.

    Args:
        spec: the weight space.
        in_channels: `C` of the features that are read.
        channels: `C'` of the features that are scaled.
        hidden: width of the two-layer `phi`.
        eps: in `(0, 1)`.
        bound: how a number becomes a scale.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.

    Raises:
        ValueError: if `eps` is not in `(0, 1)` or `bound` unknown.
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        channels: int,
        *,
        hidden: int = 16,
        eps: float = 0.5,
        bound: Bound = "sin",
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        _check_eps("RelativeAlpha", eps, bound)
        self.spec = spec
        self.in_channels = in_channels
        self.eps = eps
        self.bound: Bound = bound
        options = {"param_dtype": param_dtype, "rngs": rngs}
        self.read = InvariantUnits(spec, in_channels, hidden, **options)
        self.scales = nnx.Dict(
            {s.name: linear(hidden, channels, **options) for s in scaled_spaces(spec)}
        )
        self.channels = channels
        self.conjugations, self.powers = nnx.Dict(), nnx.Dict()
        for space in linear_spaces(spec):
            pair = pair_of(spec, space)
            if pair is not None:
                conjugation = Conjugation(spec, pair, in_channels, **options)
                self.conjugations[space.name] = conjugation
                self.powers[space.name] = linear(hidden, 2 * channels, **options)

    def __call__(self, feats: Features) -> Scales:
        """Returns `[n_s, C']` by scaled unit space, matrices by general linear one."""
        check_features(self.spec, feats, self.in_channels, "RelativeAlpha")
        found = self.read(feats)
        scales = {
            name: _positive(phi(found.units[name]), self.eps, self.bound)
            for name, phi in self.scales.items()
        }
        for space in linear_spaces(self.spec):
            scales[space.name] = self._matrices(space, feats, found)
        return scales

    def _matrices(self, space: UnitSpace, feats: Features, found: Read) -> Array:
        """`[m, d, d, C']` of a space per another one of `m` units, else without `m`."""
        lead, n = self.spec.per_size(space), space.size
        eye = jnp.eye(n, dtype=found.globe.dtype)
        gamma = jnp.broadcast_to(eye[..., None], (*lead, n, n, self.channels))
        if space.name not in self.conjugations:
            return gamma
        x = self.conjugations[space.name](feats)
        host = found.globe if space.per is None else found.units[space.per]
        a = jnp.tanh(self.powers[space.name](host)) / 2
        a = a.reshape(*lead, 1, 1, self.channels, 2)
        series = a[..., 0] * x[..., None] + a[..., 1] * (x @ x)[..., None]
        return gamma + self.eps * series


class LearnedGauge(nnx.Module):
    """Moves a canonical form along its orbit, to where a reader sees it best.

    `alpha(U) U` with `U` the features of a canonical form, on which scales and signs no
    longer act, and `alpha` a function of all of `U` that permutations move with the
    units. Weights on one orbit give one result, up to permutations: what reads it needs
    to be equivariant to permutations only, and sees `alpha`.

    Args:
        spec: the weight space, with the groups of the network (not of the form).
        in_channels: `C`.
        hidden: width of the two-layer map.
        eps: in `(0, 1)`.
        bound: how a number becomes a scale.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        *,
        hidden: int = 16,
        eps: float = 0.5,
        bound: Bound = "sin",
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        _check_eps("LearnedGauge", eps, bound)
        self.spec = spec
        self.in_channels = in_channels
        self.eps = eps
        self.bound: Bound = bound
        options = {"param_dtype": param_dtype, "rngs": rngs}
        free = self.free = spec.permutations_only()
        self.read = InvariantUnits(free, in_channels, hidden, **options)
        self.scales = nnx.Dict(
            {s.name: linear(hidden, 1, **options) for s in scaled_spaces(spec)}
        )

    def alpha(self, feats: Features) -> Scales:
        """Returns `[n_s]` by scaled unit space."""
        views = {leaf.path: leaf.view for leaf in self.free.leaves}
        merged = {p: x.reshape(*views[p], x.shape[-1]) for p, x in feats.items()}
        units = self.read(merged).units
        return {
            name: _positive(phi(units[name])[:, 0], self.eps, self.bound)
            for name, phi in self.scales.items()
        }

    def __call__(self, feats: Features) -> Features:
        """Returns features `[*leaf.view, C]` on the orbit of `feats`.

        Args:
            feats: of a canonical form.
        """
        check_features(self.spec, feats, self.in_channels, "LearnedGauge")
        return act_scales(self.spec, self.alpha(feats), feats)


def _statistics(x: Array) -> Array:
    flat = x.reshape(-1)
    levels = jnp.asarray(QUANTILES, flat.dtype)
    quantiles = jnp.quantile(flat, levels)
    return jnp.concatenate([jnp.stack([jnp.mean(flat), jnp.var(flat)]), quantiles])
