"""Factorisations of many small matrices.

`jnp.linalg` on a batch calls LAPACK from several threads at once; with as few threads
as a laptop has, those calls wait for one another for ever (jaxlib 0.10.2, 2 cores,
`vmap` over 200 networks). So on a CPU factorisations run one after the other, a
thousand networks a second, and inverses by elimination, which is elementwise work that
every backend batches well.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float


@jax.custom_jvp
@jax.jit  # An eager loop would be compiled anew at every call.
def inverse(matrix: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """Returns inverses by elimination with partial pivoting; not finite if singular.

    Differentiable; exact to about the condition number times the rounding of the dtype.

    Example:
        >>> inverse(jnp.array([[2.0, 0.0], [0.0, 4.0]])).tolist()
        [[0.5, 0.0], [0.0, 0.25]]
    """
    n = matrix.shape[-1]
    if n == 1:
        return 1 / matrix
    eye = jnp.broadcast_to(jnp.eye(n, dtype=matrix.dtype), matrix.shape)
    both = jnp.concatenate([matrix, eye], -1).reshape(-1, n, 2 * n)
    rows = jnp.arange(n)

    def eliminate(k: Array, both: Array) -> Array:
        column = jnp.where(rows[None] < k, -1, jnp.abs(both[:, :, k]))
        pivot = jnp.argmax(column, -1)
        top = jnp.take_along_axis(both, pivot[:, None, None], 1)
        moved = jnp.where(
            (rows[None] == pivot[:, None])[..., None], both[:, k, None], both
        )
        top = top / top[:, :, k, None]
        left = moved - moved[:, :, k, None] * top
        return jnp.where((rows == k)[None, :, None], top, left)

    both = jax.lax.fori_loop(0, n, eliminate, both)
    return both[:, :, n:].reshape(matrix.shape)


@inverse.defjvp
def _inverse_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = inverse(primals[0])
    return y, -y @ tangents[0] @ y


def _one_by_one(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    @jax.custom_batching.custom_vmap
    def in_turn(x: Array) -> Any:
        lead, flat = x.shape[:-2], x.reshape(-1, *x.shape[-2:])
        # A loop of one compiles longer than it runs; a number may be a symbol.
        alone = flat.shape[0] == 1
        found = function(flat) if alone else jax.lax.map(function, flat)
        return jax.tree.map(lambda y: y.reshape(*lead, *y.shape[1:]), found)

    @in_turn.def_vmap
    def _(size: int, batched: Any, x: Array) -> Any:  # One loop for all of the axes.
        found = in_turn(x)
        return found, jax.tree.map(lambda _: True, found)

    @jax.jit  # As `inverse`.
    def of_stack(x: Array) -> Any:
        return jax.lax.platform_dependent(x, cpu=in_turn, default=function)

    return of_stack


qr = _one_by_one(lambda x: tuple(jnp.linalg.qr(x)))
"""`Q [.., m, k], R [.., k, n]` of `[.., m, n]`, `k = min(m, n)`."""

svd = _one_by_one(lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)))
"""`U, S, V^T` of `[.., m, n]`, singular values in descending order."""

_values = _one_by_one(lambda x: jnp.linalg.svd(x, compute_uv=False))


@jax.custom_jvp
def singular_values(matrix: Float[Array, "... m n"]) -> Float[Array, "... k"]:
    """Returns the `k = min(m, n)` singular values, descending; differentiable once.

    Example:
        >>> singular_values(jnp.array([[0.0, 2.0], [1.0, 0.0]])).tolist()
        [2.0, 1.0]
    """
    return _values(matrix)


@singular_values.defjvp
def _singular_values_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    u, s, vt = svd(primals[0])
    return s, jnp.einsum("...ik,...ij,...kj->...k", u, tangents[0], vt)


eigh = _one_by_one(lambda x: tuple(jnp.linalg.eigh(x)))
"""Ascending eigenvalues and eigenvectors of symmetric `[.., n, n]`."""
