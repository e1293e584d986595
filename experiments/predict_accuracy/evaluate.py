"""Scores: what is computed from predictions, and the one place that opens the test.

A `Row` is a line of the final table: for every bucket (one architecture with one
activation) a function from networks to predictions, one per seed. Predictions of all
buckets are pooled before a rank correlation is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from experiments.predict_accuracy.buckets import TEST, Bucket
from experiments.predict_accuracy.moved import EXPONENTS, move_zoo
from experiments.predict_accuracy.readings import Readings
from qejax import train

Predict = Callable[[Readings], np.ndarray]
"""Networks to predicted accuracies, `[S, B]`: one row per seed."""

MOVE_KEY, GAP_KEY = 11, 12
"""Folded into the seed for the moved test networks."""

GAP_TOP = 1e4
"""Largest scale of the elements that the invariance gap is measured with."""


@dataclass(frozen=True)
class Row:
    """One trained model of the table, on every bucket.

    Attributes:
        name: as in `metrics.json`.
        model: what it is, in words.
        probes: whether it runs the networks that it reads.
        params: trainable parameters of one metanetwork; 0 for trees.
        predict: by bucket.
        curves: by bucket, steps `[E]` and validation tau `[S, E]`; empty for trees.
        extra: further numbers for `metrics.json`.
    """

    name: str
    model: str
    probes: bool
    params: int
    predict: Mapping[str, Predict]
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tested:
    """What the test split says of one row; buckets are concatenated.

    Attributes:
        truth: `[B]`, the measured accuracies.
        bucket: `[B]`, the name of the bucket of each network.
        predicted: by exponent `k`, `[S, B]` after scaling by `U[1, 10^k]`.
        gap: `[S]`, largest change of a prediction under the whole group at scales up
            to 1e4, over the sd of the predictions of unrelated networks.
    """

    truth: np.ndarray
    bucket: np.ndarray
    predicted: Mapping[int, np.ndarray]
    gap: np.ndarray


def final_test(
    rows: Sequence[Row], buckets: Sequence[Bucket], seed: int
) -> dict[str, Tested]:
    """Opens the test split: the only function that does. Call it once, at the end.

    Args:
        rows: trained and selected on the training and validation splits.
        buckets: the zoo.
        seed: of the elements that move the test networks.

    Returns:
        By name of the row.
    """
    parts: dict[str, list[Tested]] = {row.name: [] for row in rows}
    for number, bucket in enumerate(buckets):
        key = jax.random.fold_in(jax.random.key(seed), number)
        stored = bucket.readings(TEST)
        truth = bucket.accuracy(TEST)
        versions = {0: stored}
        for k in EXPONENTS[1:]:
            sub = jax.random.fold_in(jax.random.fold_in(key, MOVE_KEY), k)
            versions[k] = _moved(stored, sub, 10.0**k, permute=False)
        sub = jax.random.fold_in(key, GAP_KEY)
        orbit = _moved(stored, sub, GAP_TOP, permute=True)
        for row in rows:
            predict = row.predict[bucket.name]
            predicted = {k: predict(version) for k, version in versions.items()}
            change = np.abs(predict(orbit) - predicted[0]).max(axis=1)
            spread = predicted[0].std(axis=1)
            gap = change / np.where(spread > 0, spread, 1.0)
            names = np.full(truth.shape, bucket.name)
            parts[row.name].append(Tested(truth, names, predicted, gap))
    return {name: _pool(tested) for name, tested in parts.items()}


def _moved(readings: Readings, key: jax.Array, top: float, permute: bool) -> Readings:
    spec = readings.network.spec
    return readings.replaced(move_zoo(key, spec, readings.thetas, top, permute))


def _pool(parts: Sequence[Tested]) -> Tested:
    return Tested(
        truth=np.concatenate([part.truth for part in parts]),
        bucket=np.concatenate([part.bucket for part in parts]),
        predicted={
            k: np.concatenate([part.predicted[k] for part in parts], axis=1)
            for k in parts[0].predicted
        },
        gap=np.max([part.gap for part in parts], axis=0),
    )


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Returns the mean over seeds under `name` and their sd under `name_std`.

    Example:
        >>> spread("tau", [0.5, 0.7])
        {'tau': 0.6, 'tau_std': 0.1414213562373095}
    """
    array = np.asarray(values, dtype=np.float64)
    sd = float(array.std(ddof=1)) if array.size > 1 else 0.0
    return {name: float(array.mean()), f"{name}_std": sd}


def kendall_tau(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Returns Kendall's tau; 0 for constant predictions, which rank nothing."""
    tau = train.kendall_tau(truth, predicted)
    return 0.0 if np.isnan(tau) else tau


def scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns tau, R2 and MAE of `[S, B]` predictions, mean and sd over seeds."""
    result: dict[str, float] = {}
    for name, metric in (
        ("kendall_tau", kendall_tau),
        ("r2", train.r2),
        ("mae", train.mae),
    ):
        result |= spread(name, [metric(truth, p) for p in predicted])
    return result


def column(row: Row, tested: Tested) -> dict[str, Any]:
    """Returns one COLUMN of `metrics.json`; see design.md, section 5."""
    scaled: dict[str, float] = {}
    for k in EXPONENTS:
        taus = [kendall_tau(tested.truth, p) for p in tested.predicted[k]]
        scaled |= spread(f"1e{k}", taus)
    buckets = {}
    for name in dict.fromkeys(tested.bucket.tolist()):
        mine = tested.bucket == name
        buckets[name] = scores(tested.predicted[0][:, mine], tested.truth[mine])
    return {
        "model": row.model,
        "test": scores(tested.predicted[0], tested.truth),
        "test_scaled": scaled,
        "params": row.params,
        "seeds": len(tested.predicted[0]),
        **spread("invariance_gap", tested.gap.tolist()),
        "buckets": buckets,
        **row.extra,
    }


def baseline(row: Row, tested: Tested) -> dict[str, Any]:
    """Returns one entry of `baselines` of `metrics.json`: a COLUMN, its test flat."""
    entry = column(row, tested)
    return {**entry.pop("test"), "probes": row.probes, **entry}
