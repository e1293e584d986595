"""What a user would otherwise pick: boosted trees on statistics of the weights.

Two libraries' worth of boosting are tried and the one that ranks the validation split
better is kept; the test split plays no part. Each architecture has its own trees, as
it has its own metanetwork.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor

from experiments.predict_accuracy.buckets import TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.evaluate import Predict, Row, kendall_tau
from experiments.predict_accuracy.readings import Readings, Statistics

BIG = 1e30
"""Statistics are clipped here: trees take float32, and scaled networks overflow."""


class TreeRow(NamedTuple):
    """One boosted-trees row of the table."""

    name: str
    statistics: tuple[Statistics, ...]
    probes: bool


TREES = (
    TreeRow("trees_raw", ("raw",), False),
    TreeRow("trees_canonical", ("canonical",), False),
    TreeRow("trees_raw_canonical", ("raw", "canonical"), False),
    TreeRow("trees_canonical_path", ("canonical", "path"), False),
    TreeRow("trees_probe", ("probe",), True),
    TreeRow("trees_all", ("raw", "canonical", "path", "probe"), True),
)


def _gradient(iterations: int, seed: int) -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=iterations,
        learning_rate=0.05,
        max_depth=4,
        subsample=0.7,
        max_features=0.3,
        random_state=seed,
    )


def _histogram(iterations: int, seed: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=iterations,
        learning_rate=0.05,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        max_features=0.3,
        random_state=seed,
    )


BOOSTERS: dict[str, Callable[[int, int], Any]] = {
    "gradient boosting": _gradient,
    "histogram gradient boosting": _histogram,
}
"""By name: `(iterations, seed)` to a scikit-learn regressor."""


def fit_trees(
    row: TreeRow, buckets: list[Bucket], seed: int, seeds: int, iterations: int
) -> Row:
    """Trains the trees of one row on every bucket.

    Args:
        row: what they read.
        buckets: the zoo.
        seed: of the first repetition.
        seeds: repetitions.
        iterations: boosting iterations.

    Returns:
        The row, its booster chosen on the validation split.
    """
    predict: dict[str, Predict] = {}
    chosen: dict[str, str] = {}
    for bucket in buckets:
        _, name, trained = max(
            (
                _fit(row, bucket, name, range(seed, seed + seeds), iterations)
                for name in BOOSTERS
            ),
            key=lambda candidate: candidate[0],
        )
        chosen[bucket.name] = name
        predict[bucket.name] = _predictor(row, trained)
    words = f"{' or '.join(dict.fromkeys(chosen.values()))} on " + " and ".join(
        row.statistics
    )
    return Row(
        name=row.name,
        model=f"{words} statistics",
        probes=row.probes,
        params=0,
        predict=predict,
        extra={"statistics": row.statistics, "booster": chosen},
    )


def _fit(
    row: TreeRow, bucket: Bucket, booster: str, seeds: range, iterations: int
) -> tuple[float, str, list[Any]]:
    x = _table(row, bucket.readings(TRAIN))
    trained = [
        BOOSTERS[booster](iterations, seed).fit(x, bucket.accuracy(TRAIN))
        for seed in seeds
    ]
    predicted = _predictor(row, trained)(bucket.readings(VALIDATION))
    truth = bucket.accuracy(VALIDATION)
    tau = float(np.mean([kendall_tau(truth, p) for p in predicted]))
    return tau, booster, trained


def _predictor(row: TreeRow, trained: list[Any]) -> Predict:
    def predict(readings: Readings) -> np.ndarray:
        x = _table(row, readings)
        return np.stack([trees.predict(x) for trees in trained])

    return predict


def _table(row: TreeRow, readings: Readings) -> np.ndarray:
    return np.clip(np.nan_to_num(readings.statistics(row.statistics)), -BIG, BIG)
