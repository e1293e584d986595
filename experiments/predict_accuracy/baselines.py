"""What a user would otherwise pick: boosted trees on statistics of the weights.

Each architecture has its own trees, as it has its own metanetwork.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from experiments.predict_accuracy.buckets import TRAIN, Bucket
from experiments.predict_accuracy.evaluate import Predict, Row
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


def booster(iterations: int, seed: int) -> GradientBoostingRegressor:
    """Returns untrained trees.

    Settings from a search by cross-validation on the training and validation splits
    of the 800-network CIFAR-10 zoo, where they beat histogram boosting everywhere.
    """
    return GradientBoostingRegressor(
        n_estimators=iterations,
        learning_rate=0.05,
        max_depth=4,
        subsample=0.7,
        max_features=0.3,
        random_state=seed,
    )


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
        The row.
    """
    predict: dict[str, Predict] = {}
    for bucket in buckets:
        x, y = _table(row, bucket.readings(TRAIN)), bucket.accuracy(TRAIN)
        trained = [
            booster(iterations, repetition).fit(x, y)
            for repetition in range(seed, seed + seeds)
        ]
        predict[bucket.name] = _predictor(row, trained)
    return Row(
        name=row.name,
        model=f"boosted trees on {' and '.join(row.statistics)} statistics",
        probes=row.probes,
        params=0,
        predict=predict,
        extra={"statistics": row.statistics},
    )


def _predictor(row: TreeRow, trained: list[Any]) -> Predict:
    def predict(readings: Readings) -> np.ndarray:
        x = _table(row, readings)
        return np.stack([trees.predict(x) for trees in trained])

    return predict


def _table(row: TreeRow, readings: Readings) -> np.ndarray:
    return np.clip(np.nan_to_num(readings.statistics(row.statistics)), -BIG, BIG)
