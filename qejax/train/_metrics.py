"""How well predictions match the truth: rank correlation, R2, error, accuracy.

Host functions: NumPy or JAX arrays in, a Python `float` out, computed in float64.
They are for evaluations, not for use under `jax.jit`. Arguments are always in the
order (true, predicted), over `N` items.
"""

import math
from typing import Any

import numpy as np

from qejax._typing import Array


def kendall_tau(true: Array | np.ndarray, predicted: Array | np.ndarray) -> float:
    """Returns Kendall's tau-b between two rankings of the same items.

    With `P` concordant and `Q` discordant pairs, `T` pairs tied in `true` only and
    `U` pairs tied in `predicted` only (a pair tied in both counts nowhere),

        tau_b = (P - Q) / sqrt((P + Q + T) (P + Q + U)).

    Exact in integers up to the last division; `O(N log N)` operations and memory of
    order `N`. Invariant to increasing maps of either argument.

    Args:
        true: `[N]`, finite numbers, `N >= 2`.
        predicted: `[N]`, finite numbers.

    Returns:
        A number in `[-1, 1]`, or `nan` if one argument is constant: no pair is
        ordered, so tau-b is not defined (as in SciPy).

    Raises:
        ValueError: if the shapes differ or are not `[N]` with `N >= 2`, or if a value
            is not finite.

    Source:
        Kendall 1945, "The treatment of ties in ranking problems"; counting of
        discordant pairs after Knight 1966, by bits instead of by merging.

    Example:
        >>> round(kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 6)
        0.666667
    """
    x, y = _paired("kendall_tau", true, predicted, at_least=2)
    x, y = _ranks(x), _ranks(y)
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    discordant = _num_inversions(y)
    pairs = x.size * (x.size - 1) // 2
    tied_x, tied_y = _num_ties(x), _num_ties(y)
    tied_both = _num_ties(x * (int(y.max()) + 1) + y)
    if tied_x == pairs or tied_y == pairs:
        return float("nan")
    ordered = pairs - tied_x - tied_y + tied_both
    scale = math.sqrt((pairs - tied_x) * (pairs - tied_y))
    return min(1.0, max(-1.0, (ordered - 2 * discordant) / scale))


def r2(true: Array | np.ndarray, predicted: Array | np.ndarray) -> float:
    """Returns the coefficient of determination `1 - SS_residual / SS_total`.

    1 is perfect, 0 is as good as the mean of `true`, and there is no lower bound.

    Args:
        true: `[N]`, finite numbers, `N >= 2`.
        predicted: `[N]`, finite numbers in the unit of `true`.

    Returns:
        A number up to 1, or `nan` if `true` is constant.

    Raises:
        ValueError: if the shapes differ or are not `[N]` with `N >= 2`, or if a value
            is not finite.

    Example:
        >>> r2(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]))
        0.5
    """
    x, y = _paired("r2", true, predicted, at_least=2)
    if np.all(x == x[0]):
        return float("nan")
    total = np.sum(np.square(x - x.mean()))
    return float(1.0 - np.sum(np.square(x - y)) / total)


def mae(true: Array | np.ndarray, predicted: Array | np.ndarray) -> float:
    """Returns the mean absolute error, in the unit of `true`.

    Args:
        true: `[N]`, finite numbers, `N >= 1`.
        predicted: `[N]`, finite numbers in the unit of `true`.

    Raises:
        ValueError: if the shapes differ or are not `[N]` with `N >= 1`, or if a value
            is not finite.

    Example:
        >>> mae(np.array([0.0, 1.0]), np.array([0.5, 1.0]))
        0.25
    """
    x, y = _paired("mae", true, predicted, at_least=1)
    return float(np.mean(np.abs(x - y)))


def accuracy(true: Array | np.ndarray, predicted: Array | np.ndarray) -> float:
    """Returns the fraction of items whose class is predicted.

    Args:
        true: `[N]`, classes.
        predicted: `[N]`, classes, or `[N, classes]`, finite scores whose largest
            entry (the first of equals) is the prediction.

    Raises:
        ValueError: if the shapes do not pair up, `N` is 0, or a value is not finite.

    Example:
        >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]))
        0.5
    """
    scores = np.asarray(predicted)
    if scores.ndim == 2 and scores.shape[1] > 0:
        if not np.all(np.isfinite(scores.astype(np.float64))):
            raise ValueError(_NOT_FINITE.format(name="accuracy", which="predicted"))
        scores = np.argmax(scores, axis=1)
    x, y = _paired("accuracy", true, scores, at_least=1)
    return float(np.mean(x == y))


_NOT_FINITE = (
    "{name}: expected finite numbers, got nan or infinity in {which!r}. Count and drop "
    "such items before the metric, or mend what produced them."
)


def _paired(
    name: str, true: Any, predicted: Any, at_least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns both arguments as checked float64 vectors of one length."""
    pair = [np.asarray(value) for value in (true, predicted)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
        raise ValueError(
            f"{name}: expected two vectors of one length, got shapes {pair[0].shape} "
            f"and {pair[1].shape}. Ravel or index them to one number an item."
        )
    if pair[0].size < at_least:
        raise ValueError(
            f"{name}: expected at least {at_least} items, got {pair[0].size}. Check "
            f"that the split is not empty."
        )
    pair = [value.astype(np.float64) for value in pair]
    for which, value in zip(("true", "predicted"), pair, strict=True):
        if not np.all(np.isfinite(value)):
            raise ValueError(_NOT_FINITE.format(name=name, which=which))
    return pair[0], pair[1]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the dense ranks `0, 1, ...` of `values`; equal values share one."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _num_ties(ranks: np.ndarray) -> int:
    """Returns the number of pairs of equal entries."""
    counts = np.unique(ranks, return_counts=True)[1].astype(np.int64)
    return int(np.sum(counts * (counts - 1) // 2))


def _num_inversions(ranks: np.ndarray) -> int:
    """Returns the number of pairs `i < j` with `ranks[i] > ranks[j]`.

    Two ranks first differ at one bit, where the larger has a 1. So for every bit,
    among entries that agree on all higher bits and keep their order, every 0 counts
    the ones before it.
    """
    total = 0
    for bit in reversed(range(int(ranks.max()).bit_length())):
        ranks = ranks[np.argsort(ranks >> (bit + 1), kind="stable")]
        group, ones = ranks >> (bit + 1), (ranks >> bit) & 1
        before = np.cumsum(ones) - ones
        start = np.searchsorted(group, group, side="left")
        total += int(np.sum((before - before[start])[ones == 0]))
    return total
