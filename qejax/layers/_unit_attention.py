"""Attention along a leaf: how much a unit takes from each unit at the other end.

With features of unit size and `d` channels per head, a unit `i` takes from `j`, along
the entries `w_ijf` that lie between them (`f` over the axes that no unit moves),

`l_ij = q_i . k_j / sqrt(d) + sum_f w_ijf p_i . r_jf / sqrt(d F) + sum_f a_f w_ijf^2`,

its `w_ijf` times `n softmax_j(l_ij)`, `n` the number of units `j`: where all logits are
equal, nothing changes. `q` and `k` are linear in even features, `p` and `r` in those
that flip with the entries, at either end: no sign changes a logit, and units that are
permuted take their logits along. `q`, `p` and `a` are zero at first: plain sums.

Source: Zhou et al. 2023, arXiv:2305.13546 (attention between the neurons of a network);
which pairs attend, and the terms of the entries, are our own.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array
from qejax.layers._linear import matrix, times


class UnitAttention(nnx.Module):
    """The entries of a leaf as every head sees them: at first as they are.

    Args:
        channels: of the features, `C`, a multiple of `heads`.
        folded: entries between two units, `F`.
        heads: their number, `H`.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        channels: int,
        folded: int,
        heads: int,
        *,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.heads = heads

        def draw(width: int) -> nnx.Param:
            return matrix(channels, width, param_dtype=param_dtype, rngs=rngs)

        def still(fan_in: int, width: int) -> nnx.Param:
            return nnx.Param(jnp.zeros((fan_in, width), param_dtype))

        self.query, self.key = still(channels, channels), draw(channels)
        self.near, self.far = still(channels, channels), draw(channels * folded)
        self.square = still(folded, heads)

    def __call__(
        self, flat: Array, even: tuple[Array, Array], alike: tuple[Array, Array]
    ) -> Array:
        """Returns `[H, n, m, F]`, for units `n` that take from units `m`.

        Args:
            flat: entries, `[n, m, F]`.
            even: even features of both ends, `[n, C]` and `[m, C]`.
            alike: of both ends, those that flip as the entries do.
        """
        query, key = times(even[0], self.query), times(even[1], self.key)
        near, far = times(alike[0], self.near), times(alike[1], self.far)
        folded, size = flat.shape[2], query.shape[1] // self.heads
        logits = self._products(query, key)[..., 0]
        products = self._products(near, far) / math.sqrt(folded)
        square = self.square[...].astype(flat.dtype)
        logits = (logits + jnp.sum(products * flat[None], -1)) / math.sqrt(size)
        logits = logits + jnp.einsum("ijf,fh->hij", flat**2, square)
        weights = flat.shape[1] * jax.nn.softmax(logits, axis=-1)
        return weights[..., None] * flat[None]

    def _products(self, near: Array, far: Array) -> Array:
        """From `[n, H d]` and `[m, F H d]` to `[H, n, m, F]`."""
        n, m = near.shape[0], far.shape[0]
        size = near.shape[1] // self.heads
        one = near.reshape(n, self.heads, size)
        other = far.reshape(m, -1, self.heads, size)
        return jnp.einsum("ihd,jfhd->hijf", one, other)
