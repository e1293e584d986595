"""Normal forms of one unit space that matrices act on: pure linear algebra.

Everything is a product over the leaves that touch the space, with `d x d` work only:
`writers` are rows `[m, d]` that transform as units, `readers` rows that transform as
weights that read them, and the network sees `writers @ readers.T`.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Leaves
from qejax.groups import eigh, fixed_ones_basis, qr, svd
from qejax.spaces._leaf import Leaf
from qejax.spaces._move import multiply_axis
from qejax.spaces._spec import WeightSpec


class Touch(NamedTuple):
    """One axis of a leaf that a space moves.

    Attributes:
        leaf: the leaf.
        position: of the axis in its view.
        host: the axis of the space that this one is per, if there is one.
    """

    leaf: Leaf
    position: int
    host: int | None

    @property
    def writes(self) -> bool:
        """Whether it transforms as the units do."""
        return self.leaf.axes[self.position].power > 0

    def order(self) -> tuple[int, ...]:
        """Axes of the view: host first, then the rest, this one last."""
        own = (self.position,) if self.host is None else (self.host, self.position)
        rest = [p for p in range(len(self.leaf.axes)) if p not in own]
        return (*own[:-1], *rest, self.position)

    def rows(self, x: Array) -> Array:
        """Returns `[m, d]`, or `[h, m, d]` for a space per another one."""
        lead = () if self.host is None else (x.shape[self.host],)
        return x.transpose(self.order()).reshape(*lead, -1, x.shape[self.position])

    def back(self, rows: Array) -> Array:
        """Returns the leaf whose `rows` these are."""
        order = self.order()
        ordered = rows.reshape([self.leaf.view[p] for p in order])
        return ordered.transpose(np.argsort(order))

    def weights(self, number: int) -> np.ndarray:
        """Returns `[m]`: fixed weights of the rows, equal along moved axes.

        Args:
            number: of the leaf, so that two leaves do not cancel.
        """
        total = np.full((1,), 1 + 0.5 * np.cos(number))
        lead = 1 if self.host is None else 2
        for position in self.order()[lead - 1 : -1]:
            axis = self.leaf.axes[position]
            of_axis = np.ones(axis.size)
            if axis.space is None:  # Any weights without symmetry do.
                of_axis = 1 + 0.5 * np.sin(1 + np.arange(axis.size))
            total = np.multiply.outer(total, of_axis).reshape(-1)
        return total


def touches(spec: WeightSpec, space: str) -> tuple[Touch, ...]:
    """Returns every axis that `space` moves, leaves in network order."""
    return tuple(
        Touch(leaf, position, spec.per_axis(leaf, position))
        for leaf in spec.leaves
        for position, axis in enumerate(leaf.axes)
        if axis.space == space
    )


def transformed(
    leaves: Leaves, touching: tuple[Touch, ...], write: Array, read: Array
) -> Leaves:
    """Returns leaves with every axis of a space multiplied by a matrix.

    Args:
        leaves: by path, in views.
        touching: the axes.
        write: `[d, d]` or `[h, d, d]`, of axes that write.
        read: likewise, of axes that read.
    """
    moved = dict(leaves)
    for touch in touching:
        matrix = write if touch.writes else read
        path = touch.leaf.path
        moved[path] = multiply_axis(moved[path], matrix, touch.position, touch.host)
    return moved


def replaced(leaves: Leaves, touching: tuple[Touch, ...], rows: Array) -> Leaves:
    """Returns leaves whose rows along the touching axes, stacked, are `rows`."""
    moved, start = dict(leaves), 0
    for touch in touching:
        stop = start + touch.rows(leaves[touch.leaf.path]).shape[-2]
        moved[touch.leaf.path] = touch.back(rows[..., start:stop, :])
        start = stop
    return moved


def stacked(leaves: Leaves, touching: tuple[Touch, ...]) -> Array:
    """Returns the rows of all touching axes, `[m, d]` or `[h, m, d]`."""
    return jnp.concatenate([t.rows(leaves[t.leaf.path]) for t in touching], -2)


def orthonormal(rows: Array) -> tuple[Array, Array]:
    """Returns `Q [.., m, d]` with orthonormal columns and `R [.., d, d]`, `rows = Q R`.

    With fewer rows than columns, the last columns of `Q` and rows of `R` are zero.
    """
    q, r = qr(rows)
    missing = rows.shape[-1] - q.shape[-1]
    none = [(0, 0)] * (rows.ndim - 2)
    return (
        jnp.pad(q, [*none, (0, 0), (0, missing)]),
        jnp.pad(r, [*none, (0, missing), (0, 0)]),
    )


def split(rows: Array) -> tuple[Array, Array, Array]:
    """Returns `U [.., m, d]`, `S [.., d]` and `V^T [.., d, d]` with `rows = U S V^T`.

    Singular values that are zero to rounding are zero, and so are their columns of `U`
    and rows of zeros: nothing in it depends on rounding errors alone.
    """
    q, r = orthonormal(rows)
    u, values, vt = svd(r)
    seen = is_clear(values)
    u = q @ jnp.where(seen[..., None, :], u, 0)
    return _where_live(rows, u), jnp.where(seen, values, 0), vt


def _where_live(rows: Array, factor: Array) -> Array:
    """The factor `[.., m, d]` of rows, zero where they are zero."""
    return jnp.where(jnp.any(rows != 0, -1, keepdims=True), factor, 0)


def product(writers: Array, readers: Array) -> tuple[Array, Array, Array]:
    """Returns `U`, `S` and `V` with `writers @ readers.T = U S V^T`.

    Singular values descend. One that is zero to rounding is zero, and so are its
    columns of `U` and `V`: it is told by the rank of either side, which no change of
    basis blurs.
    """
    left, right = split(writers), split(readers)
    (u, one, first), (v, two, second) = left, right
    core = (one[..., None] * first) @ (two[..., None] * second).mT
    turn, values, back = svd(core)
    seen = is_clear(values)
    u = u @ jnp.where(seen[..., None, :], turn, 0)
    v = v @ jnp.where(seen[..., None, :], back.mT, 0)
    return _where_live(writers, u), jnp.where(seen, values, 0), _where_live(readers, v)


def balanced(writers: Array, readers: Array) -> tuple[Array, Array]:
    """Returns the factors `U S^(1/2)`, `V S^(1/2)` of `writers @ readers.T = U S V^T`.

    A pair of zero singular value is zero in both. Where two are equal, their columns
    are some basis of the same plane.
    """
    u, values, v = product(writers, readers)
    half = jnp.sqrt(values)[..., None, :]
    return u * half, v * half


def root_of_clear(sizes: Array) -> Array:
    """Returns square roots along the last axis, of zero where rounding is all there is.

    The root of a rounding error of 1e-16 would be 1e-8, another one each time.
    """
    clear = is_clear(sizes)
    return jnp.where(clear, jnp.sqrt(jnp.where(clear, sizes, 1)), 0)


def is_clear(sizes: Array) -> Array:
    """Returns where sizes are above the rounding of the largest along the last axis."""
    floor = 16 * sizes.shape[-1] * jnp.finfo(sizes.dtype).eps
    return sizes > floor * jnp.max(sizes, -1, keepdims=True)


def clear(left: Array, given: Array) -> Array:
    """Returns what is left of an array, zero if that is rounding of the given one."""
    floor = 16 * left.size * jnp.finfo(left.dtype).eps
    top = jnp.max(jnp.abs(left))
    return jnp.where(top > floor * jnp.max(jnp.abs(given)), left, 0)


def odd_sign(entries: Array, weights: np.ndarray) -> Array:
    """Returns the sign `[..]` of the first odd moment of `[.., m]` that is clear.

    Clear of rounding, that is; zero if there is none.
    """
    top = jnp.max(jnp.abs(entries), -1, keepdims=True)
    v = entries / jnp.where(top > 0, top, 1)
    scale = jnp.asarray(weights, v.dtype).reshape(*[1] * (v.ndim - 1), -1)
    floor = 8 * v.shape[-1] * jnp.finfo(v.dtype).eps
    sign = jnp.zeros(v.shape[:-1], v.dtype)
    for moment in (v, v**3):
        total = jnp.sum(scale * moment, -1)
        clear = jnp.abs(total) > floor * jnp.sum(jnp.abs(scale * moment), -1)
        sign = jnp.where((sign == 0) & clear, jnp.sign(total), sign)
    return sign


def diagonal(scale: Array) -> Array:
    """Returns matrices `[.., d, d]` with the entries `[.., d]` on the diagonal."""
    eye = jnp.eye(scale.shape[-1], dtype=scale.dtype)
    return scale[..., None] * jnp.broadcast_to(eye, (*scale.shape, scale.shape[-1]))


def column_signs(leaves: Leaves, touching: tuple[Touch, ...]) -> Array:
    """Returns a sign for each unit, `[d]` or `[h, d]`, 1 where nothing tells."""
    rows = jnp.swapaxes(stacked(leaves, touching), -1, -2)
    weights = np.concatenate([t.weights(n) for n, t in enumerate(touching)])
    sign = odd_sign(rows, weights)
    return jnp.where(sign == 0, 1, sign)


def principal_frame(leaves: Leaves, touching: tuple[Touch, ...], ones: bool) -> Array:
    """Returns the rotation `[d, d]` to the principal axes of all rows.

    Every leaf counts with its share of its own square norm. Largest axis first.

    Args:
        leaves: by path, in views.
        touching: the axes.
        ones: whether the vector of ones stays fixed.
    """
    grams = []
    for number, touch in enumerate(touching):
        rows = touch.rows(leaves[touch.leaf.path])
        total = jnp.sum(rows * rows)
        share = float(1 + 0.5 * np.sin(number)) / jnp.where(total > 0, total, 1)
        grams.append(share * (rows.T @ rows))
    gram = jnp.sum(jnp.stack(grams), 0)
    size = gram.shape[0]
    if not ones:
        return eigh(gram)[1][:, ::-1].T
    basis = jnp.asarray(fixed_ones_basis(size), gram.dtype)
    inner = eigh(basis.T @ gram @ basis)[1][:, ::-1]
    return basis @ inner.T @ basis.T + jnp.full_like(gram, 1 / size)
