"""Matrices of a head that a change of its basis conjugates.

With writers `W [m, d]` (queries) and readers `K [m, d]` (keys) of one general linear
space, `X = W^T K / ||K W^T||_F` becomes `A X A^-1` when the units are multiplied by
`A`. The non-zero eigenvalues of `W^T K` are those of `K W^T`, so `X` has spectral
radius at most 1, and `I + eps (a_1 X + a_2 X^2)` is invertible for `eps < 1` and
`|a_1| + |a_2| <= 1`. Only `d x d` products: the norm is
`sqrt(sum (W^T W) * (K^T K))`.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array
from qejax.layers._bonds import Side, sides_of
from qejax.layers._features import Features
from qejax.spaces import UnitSpace, WeightSpec


class Pair(NamedTuple):
    """A writer and a reader of one space.

    Attributes:
        write: the side that writes.
        read: the side that reads.
        aligned: whether their rows run over the same things, as those of queries and
            keys do; otherwise rows are mixed by learned vectors.
    """

    write: Side
    read: Side
    aligned: bool


def pair_of(spec: WeightSpec, space: UnitSpace) -> Pair | None:
    """Returns the pair that the matrices of a space are made from.

    The first whose rows are aligned, otherwise the first whose rows only permute or
    never move; `None` where there is no such pair.
    """
    writers, readers = sides_of(spec, space)
    found = None
    for write, read in itertools.product(writers, readers):
        if not (_permutes(spec, write) and _permutes(spec, read)):
            continue
        rows = [_rows(spec, side) for side in (write, read)]
        if rows[0] == rows[1]:
            return Pair(write, read, aligned=True)
        found = found or Pair(write, read, aligned=False)
    return found


def _permutes(spec: WeightSpec, side: Side) -> bool:
    """Whether the rows only permute or never move."""
    spaces = [side.leaf.axes[position].space for position in side.rest()]
    groups = {spec.space_by_name[name].group for name in spaces if name is not None}
    return groups <= {"permutation"}


def _rows(spec: WeightSpec, side: Side) -> list[tuple[int, str | None]]:
    """Size and space of the axes of the rows; those per a host are averaged."""
    rows = []
    for position in side.rest():
        axis = side.leaf.axes[position]
        if axis.size == 1 and axis.space is None:
            continue  # A scale that was settled.
        if spec.per_axis(side.leaf, position) is None:
            rows.append((axis.size, axis.space))
    return rows


class Conjugation(nnx.Module):
    """`X` of one general linear space, from features of `C` channels.

    Channels are mixed to one writer and one reader first: a sum over channels of
    `W_c^T K_c` is not bounded by the norm of the sum of `K_c W_c^T`.

    Args:
        spec: settled.
        pair: see `pair_of`.
        in_channels: `C`.
        probes: vectors where rows are not aligned.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        pair: Pair,
        in_channels: int,
        *,
        probes: int = 4,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.spec = spec
        self.pair = pair
        self.mix, self.vectors = nnx.Dict(), nnx.Dict()
        for name, side in (("write", pair.write), ("read", pair.read)):
            draw = jax.random.normal(rngs.params(), (in_channels,), param_dtype)
            self.mix[name] = nnx.Param((1 + 0.1 * draw) / math.sqrt(in_channels))
            if not pair.aligned:
                rows = [
                    side.leaf.axes[p].size
                    for p in side.rest()
                    if side.leaf.axes[p].space is None
                ]
                shape = (math.prod(rows), probes)
                draw = jax.random.normal(rngs.params(), shape, param_dtype)
                self.vectors[name] = nnx.Param(draw / math.sqrt(shape[0]))

    def __call__(self, feats: Features) -> Array:
        """Returns `[d, d]`, or `[m, d, d]` of a space per another one; 0 for zeros."""
        w = self._side("write", self.pair.write, feats)
        k = self._side("read", self.pair.read, feats)
        x = jnp.einsum("...mi,...mj->...ij", w, k)
        if self.pair.aligned:
            grams = [jnp.einsum("...mi,...mj->...ij", y, y) for y in (w, k)]
            square = jnp.sum(grams[0] * grams[1], (-1, -2))
        else:
            small = jnp.einsum("...mi,...ni->...mn", k, w)
            square = jnp.sum(small * small, (-1, -2))
        # Means along the stream of what a norm centres are rounding and nothing else.
        least = 1e3 * float(jnp.finfo(x.dtype).eps)
        live = square > least**2 * self._bound(feats)
        norm = jnp.sqrt(jnp.where(live, square, 1))
        return jnp.where(live[..., None, None], x / norm[..., None, None], 0)

    def _bound(self, feats: Features) -> Array:
        """Product of the square norms of both leaves, for every host."""
        sizes = []
        for side in (self.pair.write, self.pair.read):
            x = feats[side.leaf.path]
            others = tuple(p for p in range(x.ndim) if p != side.host)
            sizes.append(jnp.sum(x * x, others))
        return sizes[0] * sizes[1]

    def _side(self, name: str, side: Side, feats: Features) -> Array:
        """`[m, d]` or `[h, m, d]`: rows of one side, channels mixed to one."""
        x = feats[side.leaf.path]
        x = x @ self.mix[name][...].astype(x.dtype)
        averaged = tuple(
            p
            for p in side.rest()
            if self.spec.per_axis(side.leaf, p) is not None
            or (not self.pair.aligned and side.leaf.axes[p].space is not None)
        )
        x = jnp.mean(x, averaged, keepdims=True)
        hosts = () if side.host is None else (side.host,)
        x = x.transpose(*hosts, *side.rest(), side.position)
        lead = (x.shape[0],) if hosts else ()
        x = x.reshape(*lead, -1, x.shape[-1])
        if not self.pair.aligned:
            x = jnp.einsum(
                "...md,mp->...pd", x, self.vectors[name][...].astype(x.dtype)
            )
        return x
