"""One leaf, moved: gathers, scales and matrices of all its axes in one pass."""

from typing import Any

import jax
import jax.numpy as jnp

from qejax._typing import Array
from qejax.groups import GROUPS
from qejax.spaces._leaf import Leaf
from qejax.spaces._spec import WeightSpec


def act_leaf(leaf: Leaf, spec: WeightSpec, g: dict[str, Any], x: Array) -> Array:
    """Moves one leaf `x: [*leaf.view, ...]`, trailing axes carried along.

    All permutations of the leaf are one gather, and its scales are multiplied in the
    same loop, so that a backend reads and writes the leaf once. Then one product for
    each axis that a matrix moves.
    """
    moved = leaf.moved()
    if not moved:
        return x
    x = jnp.asarray(x)
    perms: dict[int, Array] = {}
    per: dict[int, int] = {}
    factors: list[tuple[tuple[int, ...], Array]] = []
    matrices: list[tuple[int, Array]] = []
    for position in moved:
        axis = leaf.axes[position]
        assert axis.space is not None
        row = GROUPS[spec.space_by_name[axis.space].group]
        host = spec.per_axis(leaf, position)
        places = (position,) if host is None else (host, position)
        if row.monomial is None:
            matrix = row.matrix if host is None else jax.vmap(row.matrix, (0, None))
            matrices.append((position, matrix(g[axis.space], axis.power)))
            continue
        monomial = row.monomial if host is None else jax.vmap(row.monomial, (0, None))
        perm, factor = monomial(g[axis.space], axis.power)
        perms[position] = jnp.asarray(perm)
        if host is not None:
            per[position] = host
        if factor is not None:
            factors.append((places, factor))
    if perms:
        permute = _PERMUTE.get(jax.default_backend(), gather_axes)
        x = permute(x, perms, per)
    for places, factor in factors:
        x = x * _along(factor.astype(x.dtype), places, x.ndim)
    for position, matrix in matrices:
        x = multiply_axis(x, matrix, position, spec.per_axis(leaf, position))
    return x


def multiply_axis(x: Array, matrix: Array, position: int, host: int | None) -> Array:
    """Returns `x` with one axis multiplied by a matrix.

    Args:
        x: any array.
        matrix: `[n, n]`, or `[m, n, n]` with one for each index of the host.
        position: of the axis of `n`.
        host: of the axis of `m`, if there is one.
    """
    labels = list(range(x.ndim))
    new = [x.ndim, position] if host is None else [host, x.ndim, position]
    out = [x.ndim if label == position else label for label in labels]
    matrix = matrix.astype(x.dtype)
    return jnp.einsum(x, labels, matrix, new, out, precision="highest")


def _along(array: Array, places: tuple[int, ...], ndim: int) -> Array:
    """`array` with its axes at `places` (ascending) of `ndim` axes, else 1."""
    shape = [1] * ndim
    for place, size in zip(places, array.shape, strict=True):
        shape[place] = size
    return array.reshape(shape)


def gather_axes(
    x: Array, perms: dict[int, Array], per: dict[int, int] | None = None
) -> Array:
    """Permutes several axes of `x` by one gather of scalars, or of its last axes.

    Every axis up to the last one that moves gets an index, those that stay an `arange`.
    The result then comes out in the order in which it is stored, and the whole leaf is
    one loop on a CPU; a gather per axis moves the gathered axis to the front and back.

    Measured on 2 cores (`benchmarks/bench_act.py`), processor time of an elementwise
    pass over 4,096 CNNs (three 3x3 convolutions, 16 channels) over that of `vmap(act)`:
    a gather per axis 0.55, one index into the flattened axes 0.75 (0.4 for MLPs),
    one-hot products 0.3, this 0.9.

    Args:
        x: any array.
        perms: by axis, `[x.shape[axis]]`, each a permutation (not checked).
        per: by axis, an earlier one whose index tells which of several permutations
            `[x.shape[earlier], x.shape[axis]]` moves it.

    Returns:
        `y` with `y[i, j, ...] = x[perms[0][i], perms[1][j], ...]`, bit by bit.
    """
    ndim = max(perms) + 1
    per = {} if per is None else per
    index = tuple(
        _along(
            perms.get(axis, jnp.arange(size)).astype(jnp.int32),
            (per[axis], axis) if axis in per else (axis,),
            ndim,
        )
        for axis, size in enumerate(x.shape[:ndim])
    )
    # In bounds and unique by construction: the defaults would add a comparison and a
    # select per element, and a slower scatter to the gradient.
    return x.at[index].get(
        mode="promise_in_bounds", unique_indices=True, wrap_negative_indices=False
    )


def multiply_axes(
    x: Array, perms: dict[int, Array], per: dict[int, int] | None = None
) -> Array:
    """Permutes several axes of `x` by products with 0-1 matrices, for matrix units.

    Equal to `gather_axes` for finite `x` (a zero may lose its sign): every sum has one
    term that is not zero, and the products are not rounded. A non-finite entry spreads.
    """
    per = {} if per is None else per
    # Hosts first: the others are indexed by their new positions.
    for axis in sorted(perms, key=lambda axis: axis in per):
        rows = jax.nn.one_hot(perms[axis], x.shape[axis], dtype=x.dtype)
        x = multiply_axis(x, rows, axis, per.get(axis))
    return x


_PERMUTE = {"tpu": multiply_axes}
"""How axes are permuted by backend, `gather_axes` elsewhere; see the numbers there."""
