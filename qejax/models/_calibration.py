"""Constants measured once on the training split: state that is never trained.

Statistics have heavy tails and many scales; each is mapped to normal scores by its own
quantiles. The map is continuous and of bounded slope, so that rounding in a statistic
stays rounding in what is read: knots that lie too close are merged.
"""

from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Float

KNOTS = 65
MERGE = 1e-3
"""Knots closer than this share of the bulk of the data are one knot."""

LIMIT = 3.0
"""Normal scores are cut off at this many deviations."""


class NormalScores(NamedTuple):
    """A piecewise linear map per statistic.

    Attributes:
        knots: `[Q, F]`, increasing down each column.
        levels: `[Q, F]`, the normal score at each knot.
    """

    knots: Array
    levels: Array


def identity_scores(size: int) -> NormalScores:
    """Returns the map that only cuts off, for `size` statistics."""
    grid = np.linspace(-LIMIT, LIMIT, KNOTS, dtype=np.float32)
    table = jnp.asarray(np.repeat(grid[:, None], size, 1))
    return NormalScores(table, table)


def fit_scores(values: np.ndarray) -> NormalScores:
    """Returns the map to normal scores of each column.

    Args:
        values: `[B, F]`, of the training split; non-finite entries are left out.
    """
    values = np.asarray(values, np.float64)
    columns = [_fit_column(values[:, f]) for f in range(values.shape[1])]
    knots = np.stack([knots for knots, _ in columns], 1)
    levels = np.stack([levels for _, levels in columns], 1)
    return NormalScores(jnp.asarray(knots), jnp.asarray(levels))


def apply_scores(
    scores: NormalScores, values: Float[Array, " F"]
) -> Float[Array, " F"]:
    """Returns normal scores of one network's statistics, within the cut-off.

    A statistic that is not finite gets the score 0.
    """
    mapped = jax.vmap(jnp.interp, in_axes=(0, 1, 1))(
        values, scores.knots.astype(values.dtype), scores.levels.astype(values.dtype)
    )
    return jnp.where(jnp.isfinite(mapped), mapped, 0)


def _fit_column(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.sort(x[np.isfinite(x)])
    spread = x.std() if x.size else 0.0
    if x.size < 2 or spread <= 1e-6 * max(1.0, np.abs(x).max()):
        # A constant says nothing: every value has the score 0.
        return np.arange(KNOTS, dtype=np.float64), np.zeros(KNOTS)
    levels = np.linspace(0, 1, KNOTS)
    knots = np.quantile(x, levels)
    # Tails are heavy: the width of the bulk, or of a tenth of all where that is zero.
    bulk = max(knots[3 * KNOTS // 4] - knots[KNOTS // 4], 0.1 * spread)
    nearest = MERGE * (bulk + 0.1 * np.median(np.abs(x)))
    kept_knots, kept_levels = [], []
    start = 0
    for stop in range(1, KNOTS + 1):
        if stop == KNOTS or knots[stop] - knots[start] > nearest:
            kept_knots.append(knots[start:stop].mean())
            kept_levels.append(levels[start:stop].mean())
            start = stop
    scores = np.clip(_normal_quantile(np.array(kept_levels)), -LIMIT, LIMIT)
    # Padding lies above the data and changes nothing there.
    missing = KNOTS - len(kept_knots)
    above = kept_knots[-1] + spread * np.arange(1, missing + 1)
    return (
        np.concatenate([kept_knots, above]),
        np.concatenate([scores, np.full(missing, scores[-1])]),
    )


class Link(NamedTuple):
    """A non-decreasing map from scores to labels.

    Attributes:
        scores: `[Q]`, increasing.
        labels: `[Q]`, non-decreasing, in [0, 1].
    """

    scores: Array
    labels: Array


def logistic_link() -> Link:
    """Returns the logistic function, as a table."""
    grid = np.linspace(-12, 12, 4 * KNOTS)
    return Link(
        jnp.asarray(grid, jnp.float32),
        jnp.asarray(1 / (1 + np.exp(-grid)), jnp.float32),
    )


def fit_link(scores: np.ndarray, labels: np.ndarray) -> Link:
    """Returns the non-decreasing map with the least squared error.

    Args:
        scores: `[B]`, of a model; of networks that it was not trained on, if possible.
        labels: `[B]`, in [0, 1].

    Raises:
        ValueError: if there are fewer than two different scores.
    """
    order = np.argsort(scores, kind="stable")
    x = np.asarray(scores, np.float64)[order]
    if x.size < 2 or x[0] == x[-1]:
        raise ValueError(
            f"fit_link: expected at least two different scores, got {x.size} scores "
            f"from {x[0] if x.size else None} to {x[-1] if x.size else None}. Train "
            f"the model first."
        )
    fitted = _pool_adjacent(np.asarray(labels, np.float64)[order])
    size = 4 * KNOTS
    # Means over runs smooth the steps and keep the order.
    runs = np.array_split(np.arange(x.size), min(size, max(x.size // 8, 2)))
    knots = np.array([x[run].mean() for run in runs])
    values = np.array([fitted[run].mean() for run in runs])
    grid = np.linspace(knots[0], knots[-1], size)
    return Link(
        jnp.asarray(grid, jnp.float32),
        jnp.asarray(np.interp(grid, knots, values), jnp.float32),
    )


def _pool_adjacent(y: np.ndarray) -> np.ndarray:
    """The closest non-decreasing sequence (pool adjacent violators)."""
    values: list[float] = []
    sizes: list[int] = []
    for value in y:
        values.append(float(value))
        sizes.append(1)
        while len(values) > 1 and values[-2] > values[-1]:
            size = sizes[-2] + sizes[-1]
            mean = (values[-2] * sizes[-2] + values[-1] * sizes[-1]) / size
            values[-2:], sizes[-2:] = [mean], [size]
    return np.repeat(values, sizes)


def _normal_quantile(levels: np.ndarray) -> np.ndarray:
    inside = np.clip(levels, 1e-6, 1 - 1e-6)
    return np.array([NormalDist().inv_cdf(level) for level in inside])
