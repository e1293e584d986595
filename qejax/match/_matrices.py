"""The best matrix between units that any linear map acts on, in closed form.

Of orthogonal groups by Procrustes. Of invertible matrices by Procrustes between
balanced factors: both networks' products `W R^T`, which is all that their functions
see, are split evenly, `W = W' T` and `R = R' T^-T`, and the orthogonal matrix between
the `W'` and `R'` of both is taken back through the `T` of each.

Source: Schönemann 1966, doi:10.1007/BF02289451 (Procrustes).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array
from qejax.groups import fixed_ones_basis, inverse, qr, svd
from qejax.match._factors import best_size
from qejax.spaces import Rows

Pair = tuple[Sequence[Rows], Sequence[Rows]]


def _polar(matrix: Array) -> Array:
    """The orthogonal matrix `Q` for which `trace(Q^T matrix)` is largest."""
    u, _, vt = svd(matrix)
    return jnp.matmul(u, vt, precision="highest")


def _cross(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """`sum_l A_l B_l^T` over all leaves, `[n, n]`: of the first, by the second."""
    each = [
        jnp.einsum("ir,jr->ij", a.values, b.values, precision="highest")
        for a, b in zip(first, second, strict=True)
        if a.power
    ]
    return sum(each[1:], each[0])


def orthogonal(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """Returns `M` for which `M B` is nearest to `A`, rows stacked, `M` orthogonal."""
    return _polar(_cross(first, second))


def orthogonal_ones(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """Returns the same among those that keep the vector of ones."""
    cross = _cross(first, second)
    size = cross.shape[0]
    basis = jnp.asarray(fixed_ones_basis(size), cross.dtype)
    inner = _polar(basis.T @ cross @ basis) if size > 1 else jnp.zeros((0, 0))
    return basis @ inner.astype(cross.dtype) @ basis.T + 1 / size


def _stacked(rows: Sequence[Rows], power: int) -> Array:
    """Entries of all leaves with a power, a column for each unit, `[R, n]`."""
    own = [row.values.T for row in rows if row.power == power]
    size = rows[0].values.shape[0]
    # At least as many rows as units: a thin QR has fewer columns otherwise.
    return jnp.concatenate([*own, jnp.zeros((size, size), rows[0].values.dtype)])


class _Even(NamedTuple):
    """A product `W R^T` split evenly, `W = W' T` and `R = R' T^-T`.

    Attributes:
        left: `W'`, what writes units, `[R, n]`.
        right: `R'`, what reads them, `[R', n]`.
        forth: `T`, `[n, n]`, rows of zeros where the product has no rank.
        back: `T^-1`, columns of zeros there.
        live: `[n]`, where the product has rank, to rounding.
        frame: `Q`, `[R, n]`, and `U`, `[n, n]`, of `W = Q U`.
    """

    left: Array
    right: Array
    forth: Array
    back: Array
    live: Array
    frame: tuple[Array, Array]


def _even(rows: Sequence[Rows]) -> _Even:
    write, read = (_stacked(rows, power) for power in (1, -1))
    (q, r), (p, s) = qr(write), qr(read)
    u, values, vt = svd(jnp.matmul(r, s.T, precision="highest"))
    live = values > _rounding(r) * values[0]
    root = jnp.where(live, jnp.sqrt(values), 0)
    left, right = q @ (u * root[None]), p @ (vt.T * root[None])
    # W' and R' have W'^T W' = R'^T R' = S, the singular values.
    over = jnp.where(live, 1 / jnp.where(live, values, 1), 0)[None]
    forth, back = (left * over).T @ write, read.T @ (right * over)
    return _Even(left, right, forth, back, live, (q, r))


def _rounding(matrix: Array) -> float:
    """What rounding makes of zero singular values, of the largest one."""
    return 10 * matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps)


def general_linear(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """Returns `M`, units as `M y`: `T_b^-1 Q T_a`, transposed, see `_Even`.

    A product without full rank, as of a singular head, has directions that the function
    does not see. If what writes units has full rank, it tells them alone: readers are
    few, or are not compared. Else `M` takes those of one network to those of the other
    as they stand. Where no such matrix has an inverse it is the identity.
    """
    a, b = _even(first), _even(second)
    live = a.live & b.live
    keep = live.astype(a.back.dtype)
    turn = _polar(
        (b.left.T @ a.left + b.right.T @ a.right) * keep[:, None] * keep[None]
    )
    parts = [(x.back * keep[None], x.forth * keep[:, None]) for x in (a, b)]
    (a_back, a_forth), (b_back, b_forth) = parts
    eye = jnp.eye(*turn.shape, dtype=turn.dtype)
    dead = (eye - b_back @ b_forth) @ (eye - a_back @ a_forth)
    both = b_back @ turn @ a_forth + jnp.where(jnp.all(live), 0, dead)
    # Of one side alone, W_b = Q U: U M^T should be Q^T W_a.
    q, r = b.frame
    one = inverse(r) @ (q.T @ _stacked(first, 1))
    matrix = jnp.where(~jnp.all(live) & _regular(one), one, both)
    return jnp.where(_regular(matrix), matrix, eye).T


def _regular(matrix: Array) -> Array:
    """Whether a matrix and its inverse keep some digits."""
    sizes = [jnp.sum(x**2) for x in (matrix, inverse(matrix))]
    most = 0.01 / float(jnp.finfo(matrix.dtype).eps)
    return jnp.isfinite(sizes[0] * sizes[1]) & (sizes[0] * sizes[1] < most**2)


def absorbed(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """Returns the best number of either sign, `[1, 1]`."""
    options = [
        best_size(first, [row._replace(values=sign * row.values) for row in second])
        for sign in (1.0, -1.0)
    ]
    costs = jnp.stack([cost[0, 0] for cost, _ in options])
    sizes = jnp.stack(
        [one * size[0, 0] for one, (_, size) in zip((1, -1), options, strict=True)]
    )
    return sizes[jnp.argmin(costs)].reshape(1, 1)


ROUNDS = 4
"""Of phases and sizes in turn."""


def rotary(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """Returns a complex number for each pair of units, `[n / 2, 2]`."""
    half = first[0].values.shape[0] // 2

    def halves(rows: Rows) -> tuple[Array, Array]:
        return rows.values[:half], rows.values[half:]

    number = jnp.stack([jnp.ones(half), jnp.zeros(half)], -1).astype(
        first[0].values.dtype
    )

    def better(_: Array, number: Array) -> Array:
        real, imaginary = jnp.zeros((2, half), number.dtype)
        size = jnp.sqrt(jnp.sum(number**2, -1))
        for a, b in zip(first, second, strict=True):
            (x, y), (u, v) = halves(a), halves(b)
            weight = size**a.power
            real = real + weight * jnp.sum(u * x + v * y, -1)
            imaginary = imaginary + weight * jnp.sum(u * y - v * x, -1)
        length = jnp.sqrt(real**2 + imaginary**2)
        live = jnp.where(length > 0, length, 1)
        turn = jnp.stack([jnp.where(length > 0, real, 1) / live, imaginary / live], -1)
        cos, sin = turn[:, :1], turn[:, 1:]
        turned = []
        for b in second:
            u, v = halves(b)
            values = jnp.concatenate([cos * u - sin * v, sin * u + cos * v], -1)
            turned.append(b._replace(values=values))
        pairs = [row._replace(values=jnp.concatenate(halves(row), -1)) for row in first]
        _, sizes = best_size(pairs, turned)
        return turn * jnp.diagonal(sizes)[:, None]

    return jax.lax.fori_loop(0, ROUNDS, better, number)


MATRICES: dict[str, Callable[[Sequence[Rows], Sequence[Rows]], Array]] = {
    "orthogonal": orthogonal,
    "orthogonal_ones": orthogonal_ones,
    "general_linear": general_linear,
    "linear_stream": general_linear,
    "absorbed": absorbed,
    "rotary": rotary,
}
"""By group, without permutations of units."""
