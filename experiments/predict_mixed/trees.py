"""What a user would otherwise pick: boosted trees on statistics, or less than that."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.predict_accuracy.baselines import BIG, booster
from experiments.predict_accuracy.evaluate import kendall_tau
from experiments.predict_mixed.config import Config
from experiments.predict_mixed.evaluate import Model, truth_of
from experiments.predict_mixed.zoo import Column
from qejax import zoo
from qejax.nets import CNNConfig, MLPConfig, NetConfig

ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid")
"""Each is a column of its own."""

MOST_LAYERS = 3
"""Hidden layers whose widths are columns."""


def describe(config: NetConfig) -> list[float]:
    """Returns what is known of an architecture: kind, depth, widths, activation.

    Example:
        >>> describe(MLPConfig((64, 16, 12, 10), "tanh"))
        [0.0, 2.0, 16.0, 12.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    if isinstance(config, CNNConfig):
        widths = config.channels
    else:
        assert isinstance(config, MLPConfig)
        widths = config.widths[1:-1]
    kind = float(isinstance(config, CNNConfig))
    padded = [*map(float, widths), *[0.0] * MOST_LAYERS][:MOST_LAYERS]
    chosen = [float(config.activation[0] == name) for name in ACTIVATIONS]
    return [kind, float(len(widths)), *padded, *chosen]


def _architecture(networks: zoo.MixedZoo) -> np.ndarray:
    rows = np.array([describe(network.config) for network in networks.networks])
    return rows[networks.which]


def _statistics(networks: zoo.MixedZoo) -> np.ndarray:
    assert networks.normal is not None
    return np.clip(np.nan_to_num(networks.normal.statistics), -BIG, BIG)


def _both(networks: zoo.MixedZoo) -> np.ndarray:
    return np.hstack([_architecture(networks), _statistics(networks)])


ROWS: dict[str, tuple[str, Callable[[zoo.MixedZoo], np.ndarray]]] = {
    "trees_statistics": ("boosted trees on the stored statistics", _statistics),
    "trees_both": ("boosted trees on statistics and architecture", _both),
    "trees_architecture": ("boosted trees on the architecture alone", _architecture),
}
"""By name: what it is, and what it reads of networks."""


def train_trees(row: str, column: Column, config: Config) -> Model:
    """Returns one row of a column, one fit a seed.

    The number of boosting iterations is the best on the validation split.
    """
    words, read = ROWS[row]
    seen, held = column.mixed.select("train"), column.mixed.select("val")
    x, known = read(held), truth_of(held)
    fits: list[tuple[Any, int]] = []
    for seed in range(config.seed, config.seed + config.seeds):
        trees = booster(config.trees, seed).fit(read(seen), truth_of(seen))
        taus = [kendall_tau(known, y) for y in trees.staged_predict(x)]
        fits.append((trees, int(np.argmax(taus))))

    def score(networks: zoo.MixedZoo) -> np.ndarray:
        x = read(networks)
        found = []
        for trees, best in fits:
            stages = enumerate(trees.staged_predict(x))
            found.append(next(y.copy() for at, y in stages if at == best))
        return np.stack(found)

    return Model(row, words, 0, score, {"iterations": [best + 1 for _, best in fits]})
