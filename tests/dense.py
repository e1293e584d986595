"""Dense oracles in plain NumPy: slow, obvious, and independent of the engine."""

import functools
import math
from typing import NamedTuple

import numpy as np

from qejax.layers import Pattern, Term


@functools.cache
def term_matrix(term: Term) -> np.ndarray:
    """Maps of one term, `[F_b, F_a, view of b, view of a]` with views flattened.

    One map per pair of fixed positions: an entry is 1 where all indices of a block
    agree (divided by the sizes of summed blocks), else 0.
    """
    source, target = _meeting(term.source), _meeting(term.target)
    same = np.all(target.shared[:, None] == source.shared[None], axis=-1)
    same &= target.agree[:, None] & source.agree[None]
    entries = same / _summed(term.source)
    return (
        entries
        * np.eye(term.target.multiplicity)[:, None, target.fixed, None]
        * np.eye(term.source.multiplicity)[None, :, None, source.fixed]
    )


class _Meeting(NamedTuple):
    """Per index of a view: shared indices, whether blocks agree, fixed position."""

    shared: np.ndarray
    agree: np.ndarray
    fixed: np.ndarray


@functools.cache
def _meeting(pattern: Pattern) -> _Meeting:
    leaf, shared, agree, fixed = pattern.leaf, [], [], []
    for index in np.ndindex(*leaf.view):
        blocks: dict[int, set[int]] = {}
        for label, position in zip(pattern.labels, leaf.moved(), strict=True):
            blocks.setdefault(label, set()).add(index[position])
        agree.append(all(len(values) == 1 for values in blocks.values()))
        shared.append([min(blocks[i]) for i in range(len(pattern.key))])
        place = tuple(index[i] for i in leaf.fixed())
        fixed.append(int(np.ravel_multi_index(place, pattern.fixed)) if place else 0)
    size = len(agree)
    return _Meeting(
        np.array(shared).reshape(size, -1), np.array(agree), np.array(fixed)
    )


def _summed(pattern: Pattern) -> int:
    size = {
        label: pattern.leaf.axes[position].size
        for label, position in zip(pattern.labels, pattern.leaf.moved(), strict=True)
    }
    return math.prod(n for label, n in size.items() if label >= len(pattern.key))


def commutant_dimension(rho_out: list[np.ndarray], rho_in: list[np.ndarray]) -> int:
    """Dimension of `{A : rho_out(g) A = A rho_in(g) for all given g}`."""
    n_out, n_in = rho_out[0].shape[0], rho_in[0].shape[0]
    null = np.eye(n_out * n_in)
    for out, into in zip(rho_out, rho_in, strict=True):
        # Restricted to what the elements so far left over: it shrinks fast.
        maps = null.T.reshape(-1, n_out, n_in)
        moved = (out @ maps - maps @ into).reshape(len(maps), n_out * n_in).T
        null = null @ _null_space(moved)
    return null.shape[1]


def _null_space(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span the null space; fails where it is not clear."""
    values, columns = np.linalg.eigh(matrix.T @ matrix)
    assert not np.any((values > 1e-12) & (values < 1e-7)), values
    return columns[:, values < 1e-9]


def rank(matrix: np.ndarray) -> int:
    """Numerical rank, with a gap: fails where it is not clear."""
    if matrix.size == 0:
        return 0
    values = np.linalg.svd(matrix, compute_uv=False)
    top = max(float(values[0]), 1e-300)
    assert not np.any((values > 1e-11 * top) & (values < 1e-6 * top)), values
    return int(np.sum(values > 1e-8 * top))
