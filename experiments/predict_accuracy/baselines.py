"""What a user would otherwise pick: boosted trees on statistics of the weights.

Each architecture has its own trees, as it has its own metanetwork.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from experiments.predict_accuracy.buckets import TRAIN, Bucket
from experiments.predict_accuracy.evaluate import Predict, Row
from experiments.predict_accuracy.readings import Readings, Statistics
from experiments.predict_accuracy.train import Trained

BIG = 1e30
"""Statistics are clipped here: trees take float32, and scaled networks overflow."""


class TreeRow(NamedTuple):
    """One boosted-trees row of the table.

    Attributes:
        name: of the row.
        statistics: that they read; none for what a metanetwork's head reads.
        probes: whether those run the networks.
    """

    name: str
    statistics: tuple[Statistics, ...]
    probes: bool

    @property
    def words(self) -> str:
        """What they read."""
        if not self.statistics:
            return "everything that the model reads"
        return f"{' and '.join(self.statistics)} statistics"


TREES = (
    TreeRow("trees_raw", ("raw",), False),
    TreeRow("trees_canonical", ("canonical",), False),
    TreeRow("trees_raw_canonical", ("raw", "canonical"), False),
    TreeRow("trees_canonical_path", ("canonical", "path"), False),
    TreeRow("trees_probe", ("probe",), True),
    TreeRow("trees_all", ("raw", "canonical", "path", "probe"), True),
)
"""Trees on statistics."""


def tree_rows(buckets: Sequence[Bucket]) -> tuple[TreeRow, ...]:
    """Returns the rows of `TREES` with the statistics that can be taken, each set once.

    No statistics of paths are taken of networks that are not chains of layers.
    """
    chains = all(bucket.everything.network.layers for bucket in buckets)
    rows: dict[tuple[Statistics, ...], TreeRow] = {}
    for row in TREES:
        taken: tuple[Statistics, ...] = tuple(
            kind for kind in row.statistics if chains or kind != "path"
        )
        rows.setdefault(taken, row._replace(statistics=taken))
    return tuple(rows.values())


SAME_INPUTS = {
    "without_probes": TreeRow("trees_inputs", (), False),
    "with_probes": TreeRow("trees_inputs_probes", (), True),
}
"""Trees on what the head of a column's metanetwork reads, by column."""


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


class Table(NamedTuple):
    """What trees read of one bucket.

    Attributes:
        x: `[B, F]`, of the training split.
        y: `[B]`, its accuracies.
        read: from other networks of the bucket to `[B', F]`.
    """

    x: np.ndarray
    y: np.ndarray
    read: Callable[[Readings], np.ndarray]


def statistics_table(row: TreeRow, bucket: Bucket) -> Table:
    """Returns the statistics that a row names."""

    def read(readings: Readings) -> np.ndarray:
        return readings.statistics(row.statistics)

    return Table(read(bucket.readings(TRAIN)), bucket.accuracy(TRAIN), read)


def inputs_table(trained: Trained) -> Table:
    """Returns what the head of a trained metanetwork reads, comparisons included."""
    model = trained.model
    inputs, accuracy = model.training
    return Table(
        np.asarray(inputs["statistics"]),
        accuracy,
        lambda readings: np.asarray(model.inputs(readings)["statistics"]),
    )


def fit_trees(
    row: TreeRow,
    tables: Mapping[str, Table],
    seed: int,
    seeds: int,
    iterations: int,
) -> Row:
    """Trains the trees of one row on every bucket.

    Args:
        row: what they are called and read.
        tables: by bucket.
        seed: of the first repetition.
        seeds: repetitions.
        iterations: boosting iterations.

    Returns:
        The row.
    """
    predict: dict[str, Predict] = {}
    for name, table in tables.items():
        trained = [
            booster(iterations, repetition).fit(_finite(table.x), table.y)
            for repetition in range(seed, seed + seeds)
        ]
        predict[name] = _predictor(table, trained)
    return Row(
        name=row.name,
        model=f"boosted trees on {row.words}",
        probes=row.probes,
        params=0,
        predict=predict,
        extra={"statistics": row.statistics},
    )


def _predictor(table: Table, trained: list[Any]) -> Predict:
    def predict(readings: Readings) -> np.ndarray:
        x = _finite(table.read(readings))
        return np.stack([trees.predict(x) for trees in trained])

    return predict


def _finite(x: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(x), -BIG, BIG)
