"""What a user would otherwise pick: boosted trees on statistics of the weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

from experiments.predict_accuracy.baselines import BIG
from experiments.predict_accuracy.chunks import UNOPTIMISED, chunked
from experiments.read_adapters.config import Config
from experiments.read_adapters.evaluate import Answer, Row, thetas_of, truth_of
from qejax import models, train, zoo
from qejax._typing import Theta
from qejax.spaces import WeightSpec

WORDS = {
    "trees_canonical": "boosted trees on statistics of the normal form",
    "trees_raw": "boosted trees on raw statistics",
}
"""Rows by name."""

LEAST = 1e-6
"""Least probability of a task: trees can be sure and wrong."""


def names(config: Config) -> list[str]:
    """Returns the rows of a run, in the order of the table."""
    return [name for name in WORDS if name in config.rows]


def train_trees(name: str, adapters: zoo.Zoo, config: Config) -> Row:
    """Returns the row of trees on statistics, one fit per seed and question.

    The number of boosting iterations is the best on the validation split.
    """
    read = _READ[name](adapters.network.spec)
    x, truth = read(thetas_of(adapters, "train")), truth_of(adapters, "train")
    seen, known = read(thetas_of(adapters, "val")), truth_of(adapters, "val")
    at = np.arange(len(known.task))
    fits: list[tuple[Any, int, Any, int]] = []
    for seed in range(config.seed, config.seed + config.seeds):
        which = GradientBoostingClassifier(**_settings(config, seed))
        which.fit(x, truth.task)
        losses = [
            -np.log(_safe(p)[at, known.task]).mean()
            for p in which.staged_predict_proba(seen)
        ]
        well = GradientBoostingRegressor(**_settings(config, seed))
        well.fit(x, truth.accuracy)
        taus = [
            np.nan_to_num(train.kendall_tau(known.accuracy, p), nan=-1.0)
            for p in well.staged_predict(seen)
        ]
        fits.append((which, int(np.argmin(losses)), well, int(np.argmax(taus))))

    def answer(thetas: Theta) -> Answer:
        x = read(thetas)
        pairs = [
            (
                np.log(_safe(_stage(which.staged_predict_proba(x), best))),
                _stage(well.staged_predict(x), top),
            )
            for which, best, well, top in fits
        ]
        return Answer(*(np.stack(column) for column in zip(*pairs, strict=True)))

    stages = [[best + 1, top + 1] for _, best, _, top in fits]
    return Row(name, WORDS[name], 0, answer, {"iterations": stages})


def _settings(config: Config, seed: int) -> dict[str, Any]:
    return {
        "n_estimators": config.trees,
        "learning_rate": 0.1,
        "max_depth": 3,
        "subsample": 0.7,
        "max_features": 0.3,
        "random_state": seed,
    }


def _stage(stages: Any, number: int) -> np.ndarray:
    return next(found for at, found in enumerate(stages) if at == number)


def _safe(probabilities: np.ndarray) -> np.ndarray:
    safe = np.maximum(probabilities, LEAST)
    return safe / safe.sum(1, keepdims=True)


def _raw(spec: WeightSpec) -> Callable[[Theta], np.ndarray]:
    return _finite(lambda theta: models.raw_statistics(spec, theta))


def _canonical(spec: WeightSpec) -> Callable[[Theta], np.ndarray]:
    """All statistics that the head of the canonical predictor reads."""
    predictor = models.Predictor(spec, 0, "canonical", rngs=nnx.Rngs(0))
    return _finite(lambda theta: predictor.measure(theta)["statistics"])


_READ = {"trees_canonical": _canonical, "trees_raw": _raw}


def _finite(read: Callable[[Theta], Any]) -> Callable[[Theta], np.ndarray]:
    """Trees take float32."""
    stack = chunked(read, options=UNOPTIMISED)
    return lambda thetas: np.clip(np.nan_to_num(stack(thetas)), -BIG, BIG)
