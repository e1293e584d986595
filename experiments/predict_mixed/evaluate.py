"""Scores, and the one place that opens what a column is tested on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.predict_accuracy.evaluate import kendall_tau, spread
from experiments.predict_mixed.zoo import Column
from qejax import zoo


@dataclass(frozen=True)
class Model:
    """One row of one column of the table, all seeds of it.

    Attributes:
        row: its name.
        words: what it is.
        params: trainable parameters of one metanetwork; 0 for trees.
        score: from networks to `[S, B]`, higher for a better one.
        extra: further numbers for `metrics.json`.
    """

    row: str
    words: str
    params: int
    score: Callable[[zoo.MixedZoo], np.ndarray]
    extra: Mapping[str, Any] = field(default_factory=dict)


def truth_of(networks: zoo.MixedZoo) -> np.ndarray:
    """Returns test accuracies, `[B]` float64."""
    return networks.labels["test_accuracy"].astype(np.float64)


def grade(networks: zoo.MixedZoo, score: np.ndarray) -> dict[str, float]:
    """Returns the scores of one model.

    `tau_within` is the mean over architectures of the tau among the networks of one:
    what is known of the accuracy beyond what the architecture gives away. Scores that
    are the same for all networks rank nothing: their tau is 0.

    Args:
        networks: `B` of them.
        score: `[B]`.
    """
    truth, which = truth_of(networks), networks.which
    within = [
        kendall_tau(truth[which == one], score[which == one])
        for one in np.unique(which)
    ]
    return {
        "kendall_tau": kendall_tau(truth, score),
        "tau_within": float(np.mean(within)),
    }


def graded(networks: zoo.MixedZoo, score: np.ndarray) -> dict[str, float]:
    """Returns means over seeds, and a spread beside each; `score` is `[S, B]`."""
    found = [grade(networks, one) for one in score]
    scores: dict[str, float] = {}
    for name in found[0]:
        scores |= spread(name, [one[name] for one in found])
    return scores


def final_test(models: Sequence[Model], column: Column) -> dict[str, dict[str, float]]:
    """Returns the scores of every row on what a column is tested on.

    The only function that opens it. Call it once, at the end.

    Args:
        models: trained and selected on the training and validation splits.
        column: of the table.
    """
    networks = column.tested()
    return {one.row: graded(networks, one.score(networks)) for one in models}
