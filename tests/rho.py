"""A group element as a matrix and an offset in plain NumPy, entry by entry.

Independent of `spaces.act` and `spaces.dense_matrix`: it reads the definition of the
action (an entry of the result is a sum of entries of the weights, one factor for each
axis that moves; shifts come on top) and nothing else. Slow and obvious.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from qejax.groups import Dihedral, Monomial
from qejax.spaces import Elements, Leaf, Route, WeightSpec


def rho(spec: WeightSpec, g: Elements) -> np.ndarray:
    """`R` with `ravel(act(g, theta)) == R @ ravel(theta) + offset`, `[P, P]`."""
    units = np.zeros((spec.num_parameters, spec.num_parameters))
    for leaf, rows in _rows(spec):
        for target in np.ndindex(*leaf.view):
            for source, factor in _entries(spec, g, leaf, target):
                units[rows[target], rows[source]] = factor
    matrix, rows = units.copy(), {leaf.path: where for leaf, where in _rows(spec)}
    for shift in spec.shifts:
        for route in shift.routes:
            if route.kernel is None:
                continue
            kernel_rows = _felt(spec, route.kernel, units[rows[route.kernel]])
            for bias, t, kernel in _routed(spec, route):
                value = float(np.asarray(g[shift.name])[t])
                matrix[rows[route.bias][bias]] -= value * kernel_rows[kernel]
    return matrix


def _felt(spec: WeightSpec, path: str, kernel: np.ndarray) -> np.ndarray:
    """Rows of a kernel without their means where nobody feels those."""
    for shift in spec.shifts:
        if shift.leaf == path and shift.along:
            kernel = kernel - kernel.mean(shift.along, keepdims=True)
    return kernel


def offset(spec: WeightSpec, g: Elements) -> np.ndarray:
    """What `act` adds to any weights, `[P]`."""
    added = np.zeros(spec.num_parameters)
    rows = {leaf.path: where for leaf, where in _rows(spec)}
    for leaf in spec.leaves:
        for axis in leaf.axes:
            if axis.turn and isinstance(g[str(axis.space)], Dihedral):
                turns = np.asarray(g[str(axis.space)].turns)
                added[rows[leaf.path]] += axis.turn * turns
    for shift in spec.shifts:
        t, where = np.asarray(g[shift.name]), rows[shift.leaf]
        for index in np.ndindex(*where.shape):
            of_t = tuple(i for p, i in enumerate(index) if p not in shift.along)
            added[where[index]] += t[of_t]
        for route in shift.routes:
            if route.kernel is None:
                added[rows[route.bias]] -= t
    return added


def _rows(spec: WeightSpec) -> Iterator[tuple[Leaf, np.ndarray]]:
    """Yields leaves with the positions of their entries in the flat vector."""
    start = 0
    for leaf in spec.leaves:
        yield leaf, start + np.arange(leaf.size).reshape(leaf.view)
        start += leaf.size


def _entries(
    spec: WeightSpec, g: Elements, leaf: Leaf, target: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yields the entries that one entry of the result sums, with their factors."""
    along = []
    for position, axis in enumerate(leaf.axes):
        unit = target[position]
        if axis.space is None:
            along.append([(unit, 1.0)])
            continue
        space, element = spec.space_by_name[axis.space], g[axis.space]
        if space.per is not None:
            element = _part(element, target[_host(spec, leaf, position)])
        row = _matrix(element, space.group, space.size, axis.power)[unit]
        along.append([(int(i), float(row[i])) for i in np.flatnonzero(row)])
    for choice in itertools.product(*along):
        yield tuple(i for i, _ in choice), math.prod(factor for _, factor in choice)


def _host(spec: WeightSpec, leaf: Leaf, position: int) -> int:
    """The nearest axis before this one whose units have an element each of its own."""
    per = spec.space_by_name[str(leaf.axes[position].space)].per
    return max(p for p in range(position) if leaf.axes[p].space == per)


def _part(element: Any, host: int) -> Any:
    if isinstance(element, Monomial):
        return Monomial(element.perm[host], element.scale[host])
    return element[host]


def _matrix(element: Any, group: str, size: int, power: int) -> np.ndarray:
    """What one element does to an axis: weights that read transform with `A^-T`."""
    if isinstance(element, Dihedral):
        flips = (-1.0) ** np.asarray(element.turns) if power < 0 else 1.0
        element = Monomial(element.perm, jnp.asarray(element.scale * flips))
    if isinstance(element, Monomial):
        matrix = np.zeros((size, size))
        for unit, old in enumerate(np.asarray(element.perm)):
            matrix[unit, old] = float(np.asarray(element.scale)[unit]) ** power
        return matrix
    matrix = np.asarray(element)
    if group == "rotary":
        pairs, matrix = matrix, np.zeros((size, size))
        for i, (real, imaginary) in enumerate(pairs):
            j = i + size // 2
            matrix[i, i], matrix[i, j] = real, -imaginary
            matrix[j, i], matrix[j, j] = imaginary, real
    assert power in (1, -1), power
    return matrix if power == 1 else np.linalg.inv(matrix).T


def _routed(
    spec: WeightSpec, route: Route
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Yields the indices of bias, shift and kernel whose product is taken off."""
    inputs, into = route.subscripts.split("->")
    shift, kernel = inputs.split(",")
    for index in np.ndindex(*spec.leaf_by_path[str(route.kernel)].view):
        at = dict(zip(kernel, index, strict=True))
        yield tuple(at[c] for c in into), tuple(at[c] for c in shift), index
