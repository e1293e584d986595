"""Accuracies, and the one place that opens the test split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.orbits import move
from experiments.predict_accuracy.chunks import cast
from experiments.predict_accuracy.evaluate import spread
from qejax import models, nets, train, zoo
from qejax._typing import Theta

MOVE_KEY = 46
"""Folded into the seed for the elements that move test networks."""


@dataclass(frozen=True)
class Row:
    """One trained model of the table.

    Attributes:
        name: as in `metrics.json`.
        model: what it is, in words.
        probes: whether it runs the networks.
        params: trainable parameters of one metanetwork.
        answer: from weights, leaves `[B, ...]` float64, to logits `[S, B, K]`.
        extra: further numbers for `metrics.json`.
    """

    name: str
    model: str
    probes: bool
    params: int
    answer: Callable[[Theta], np.ndarray]
    extra: Mapping[str, Any] = field(default_factory=dict)


class Tested(NamedTuple):
    """What the test split says.

    Attributes:
        labels: `[B]`, of the test networks.
        given: by row, logits of the networks as they are stored.
        moved: by row, logits of other weights of the same functions.
        function_gap: largest change of a value by the move, over the deviation of
            values.
    """

    labels: np.ndarray
    given: dict[str, np.ndarray]
    moved: dict[str, np.ndarray]
    function_gap: float


def labels_of(fits: zoo.Zoo, split: str) -> np.ndarray:
    """Returns the classes of a split; the test split is for `final_test` only."""
    return fits.select(split).labels["class"].astype(np.int64)


def thetas_of(fits: zoo.Zoo, split: str) -> Theta:
    """Returns the weights of a split in float64."""
    return cast(fits.select(split).thetas, np.float64)


def final_test(rows: Sequence[Row], fits: zoo.Zoo, seed: int) -> Tested:
    """Opens the test split: the only function that does. Call it once, at the end.

    Args:
        rows: trained and selected on the training and validation splits.
        fits: the zoo.
        seed: of the elements that move the test networks: signs, phases, order.
    """
    thetas = thetas_of(fits, "test")
    key = jax.random.fold_in(jax.random.key(seed), MOVE_KEY)
    moved = move(key, fits.network.spec, thetas)
    with jax.enable_x64(True):
        x = nets.grid(*(7,) * models.input_shape(fits.network)[0]).astype(jnp.float64)
        apply = jax.jit(jax.vmap(fits.network.apply, (0, None)))
        values = [np.asarray(apply(theta, x)) for theta in (thetas, moved)]
    return Tested(
        labels_of(fits, "test"),
        {row.name: row.answer(thetas) for row in rows},
        {row.name: row.answer(moved) for row in rows},
        float(np.abs(values[1] - values[0]).max() / values[0].std()),
    )


def entry(row: Row, tested: Tested) -> dict[str, Any]:
    """Returns one row of `metrics.json`: means over seeds, and a spread beside each."""
    given, moved = tested.given[row.name], tested.moved[row.name]
    changed = (given.argmax(-1) != moved.argmax(-1)).sum(axis=1)
    deviation = given.std(axis=1).mean(axis=-1)
    gaps = np.abs(moved - given).max(axis=(1, 2)) / np.where(
        deviation > 0, deviation, 1
    )
    return {
        "model": row.model,
        "probes": row.probes,
        "params": row.params,
        "seeds": len(given),
        "test": _graded(tested.labels, given),
        "test_moved": _graded(tested.labels, moved),
        "changed": int(changed.max()),
        **spread("invariance_gap", gaps.tolist()),
        **row.extra,
    }


def _graded(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    return spread("accuracy", [train.accuracy(labels, one) for one in logits])
