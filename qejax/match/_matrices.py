"""The best matrix between units that any linear map acts on, in closed form.

Of orthogonal groups by Procrustes. Of invertible matrices by Procrustes between
balanced factors: both networks' products `W R^T`, which is all that their functions
see, are split evenly, `W = W' T` and `R = R' T^-T`, and the orthogonal matrix between
the `W'` and `R'` of both is taken back through the `T` of each.

Source: Schönemann 1966, doi:10.1007/BF02289451 (Procrustes).
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from qejax._typing import Array
from qejax.groups import fixed_ones_basis, inverse, qr, svd
from qejax.match._factors import best_size
from qejax.match._rows import Rows

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


def _balanced(rows: Sequence[Rows]) -> tuple[Array, Array, Array]:
    """Even factors of a product, `[R, n]` and `[R', n]`, and `T^-1`, `[n, n]`."""
    write, read = (_stacked(rows, power) for power in (1, -1))
    (q, r), (p, s) = qr(write), qr(read)
    u, values, vt = svd(jnp.matmul(r, s.T, precision="highest"))
    root = jnp.sqrt(values)[None]
    left, right = q @ (u * root), p @ (vt.T * root)
    # R = R' T^-T, so T^-1 = R^T R' S^-1 with R'^T R' = S.
    back = jnp.matmul(read.T, right / values[None], precision="highest")
    return left, right, back


def general_linear(first: Sequence[Rows], second: Sequence[Rows]) -> Array:
    """Returns `M`, units as `M y`; not finite where a product has no full rank."""
    a_left, a_right, a_back = _balanced(first)
    b_left, b_right, b_back = _balanced(second)
    turn = _polar(b_left.T @ a_left + b_right.T @ a_right)
    # W_b M^T = W'_b T_b M^T should be W'_b turn T_a: M^T = T_b^-1 turn T_a.
    return (b_back @ turn @ inverse(a_back)).T


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
    for _ in range(ROUNDS):
        real, imaginary = jnp.zeros((2, half), first[0].values.dtype)
        size = jnp.sqrt(jnp.sum(number**2, -1))
        for a, b in zip(first, second, strict=True):
            (x, y), (u, v) = halves(a), halves(b)
            weight = size**a.power
            real = real + weight * jnp.sum(u * x + v * y, -1)
            imaginary = imaginary + weight * jnp.sum(u * y - v * x, -1)
        length = jnp.sqrt(real**2 + imaginary**2)
        live = jnp.where(length > 0, length, 1)
        turn = jnp.stack([jnp.where(length > 0, real, 1) / live, imaginary / live], -1)
        turned = []
        for b in second:
            u, v = halves(b)
            cos, sin = turn[:, :1], turn[:, 1:]
            turned.append(
                b._replace(
                    values=jnp.concatenate([cos * u - sin * v, sin * u + cos * v], -1)
                )
            )
        pairs = [row._replace(values=jnp.concatenate(halves(row), -1)) for row in first]
        cost, sizes = best_size(pairs, turned)
        del cost
        number = turn * jnp.diagonal(sizes)[:, None]
    return number


MATRICES: dict[str, Callable[[Sequence[Rows], Sequence[Rows]], Array]] = {
    "orthogonal": orthogonal,
    "orthogonal_ones": orthogonal_ones,
    "general_linear": general_linear,
    "linear_stream": general_linear,
    "absorbed": absorbed,
    "rotary": rotary,
}
"""By group, without permutations of units."""
