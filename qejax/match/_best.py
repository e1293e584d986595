"""The best element of one unit space, while all others stay as they are."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from qejax._typing import Array, Leaves
from qejax.gauges import assigned
from qejax.groups import GROUPS
from qejax.match._factors import FACTORS, element
from qejax.match._matrices import MATRICES
from qejax.spaces import (
    Rows,
    UnitSpace,
    WeightSpec,
    identity,
    move_space,
    rows_of,
    touching,
)


def best_of(
    spec: WeightSpec, space: UnitSpace, first: Leaves, second: Leaves, told: bool
) -> Any:
    """Returns the element of one space that brings leaves nearest to others.

    Args:
        spec: of both networks.
        space: that moves.
        first: leaves of the network that stays, those that the space touches.
        second: of the one that moves.
        told: whether units stand where they should; then only factors are told.
    """
    inner = [other for other in spec.spaces if other.per == space.name]
    if inner and not told:
        return _with_inner(spec, space, inner, first, second)
    a, b = (list(rows_of(spec, space.name, x)) for x in (first, second))

    def one(values: tuple[list[Array], list[Array]]) -> Any:
        rows = [
            [row._replace(values=x) for row, x in zip(own, new, strict=True)]
            for own, new in zip((a, b), values, strict=True)
        ]
        return best(space.group, *rows, told=told)

    values = ([row.values for row in a], [row.values for row in b])
    return one(values) if space.per is None else jax.vmap(one)(values)


def best(
    group: str, first: Sequence[Rows], second: Sequence[Rows], told: bool = False
) -> Any:
    """Returns the element that brings rows nearest to others.

    Args:
        group: of the units.
        first: rows `[n, R]` of the network that stays.
        second: of the one that moves.
        told: as for `best_of`.
    """
    if group in MATRICES:
        matrix = MATRICES[group](first, second)
        like = GROUPS[group].identity(first[0].values.shape[0], matrix.dtype)
        return jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, like)
    found = FACTORS[group](first, second)
    size = found.cost.shape[0]
    perm = jnp.arange(size) if told else assigned(found.cost)
    return element(group, perm, found)


def _with_inner(
    spec: WeightSpec,
    host: UnitSpace,
    inner: Sequence[UnitSpace],
    first: Leaves,
    second: Leaves,
) -> Any:
    """Units with spaces of their own, by what is left behind the best of these.

    Every unit is compared with every other one: all of them are moved on by `k`, for
    all `k`.
    """
    size = host.size
    leaves_of = touching(spec, host.name)
    dtype = jnp.result_type(*first.values())
    e = identity(spec, dtype)[host.name]

    def left(step: Array) -> Array:
        perm = (jnp.arange(size) + step) % size
        leaves = second | move_space(spec, host.name, e._replace(perm=perm), second)
        for space in inner:
            h = best_of(spec, space, first, leaves, told=False)
            leaves = leaves | move_space(spec, space.name, h, leaves)
        total = jnp.zeros(size, dtype)
        for leaf in leaves_of:
            place = next(n for n, a in enumerate(leaf.axes) if a.space == host.name)
            off = jnp.moveaxis(first[leaf.path] - leaves[leaf.path], place, 0)
            total = total + jnp.sum(off.reshape(size, -1) ** 2, -1)
        return total

    each = jax.lax.map(left, jnp.arange(size))
    i, j = jnp.arange(size)[:, None], jnp.arange(size)[None]
    perm = assigned(each[(j - i) % size, i])
    return e._replace(perm=perm)
