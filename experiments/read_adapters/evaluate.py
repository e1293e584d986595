"""Scores: two questions, and the one place that opens the test split.

Every row answers both questions of every adapter: logarithms of probabilities of the
tasks, and a score that should rank adapters by test accuracy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.orbits import move
from experiments.predict_accuracy.chunks import cast
from experiments.predict_accuracy.evaluate import spread
from experiments.read_adapters.tasks import Sets
from qejax import train, zoo
from qejax._typing import Theta
from qejax.nets import Network

MOVE_KEY = 43
"""Folded into the seed for the elements that move test adapters."""

IMAGES = 64
"""On which moved adapters are compared with unmoved ones."""


class Truth(NamedTuple):
    """What is known of `B` adapters.

    Attributes:
        task: `[B]`, numbers of tasks.
        accuracy: `[B]`, on test images of that task.
    """

    task: np.ndarray
    accuracy: np.ndarray


class Answer(NamedTuple):
    """What one row says of `B` adapters, by each of `S` seeds.

    Attributes:
        log_probs: `[S, B, K]`, of the tasks.
        score: `[S, B]`, higher for a better adapter.
    """

    log_probs: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Row:
    """One trained model of the table.

    Attributes:
        name: as in `metrics.json`.
        model: what it is, in words.
        params: trainable parameters of one metanetwork; 0 for trees.
        answer: from weights, leaves `[B, ...]`, float64.
        extra: further numbers for `metrics.json`.
    """

    name: str
    model: str
    params: int
    answer: Callable[[Theta], Answer]
    extra: Mapping[str, Any] = field(default_factory=dict)


class Tested(NamedTuple):
    """What the test split says.

    Attributes:
        truth: of the test adapters.
        given: by row, answers to the adapters as they are stored.
        moved: by row, answers to other weights of the same adapters.
        function_gap: largest change of an output of the adapted networks by the move,
            over the deviation of their outputs.
    """

    truth: Truth
    given: dict[str, Answer]
    moved: dict[str, Answer]
    function_gap: float


def truth_of(adapters: zoo.Zoo, split: str) -> Truth:
    """Returns what is known of a split; the test split is for `final_test` only."""
    labels = adapters.select(split).labels
    return Truth(
        labels["task"].astype(np.int64), labels["test_accuracy"].astype(np.float64)
    )


def thetas_of(adapters: zoo.Zoo, split: str) -> Theta:
    """Returns the weights of a split in float64."""
    return cast(adapters.select(split).thetas, np.float64)


def final_test(
    rows: Sequence[Row], adapters: zoo.Zoo, sets: Sets, seed: int, condition: float
) -> Tested:
    """Opens the test split: the only function that does. Call it once, at the end.

    Args:
        rows: trained and selected on the training and validation splits.
        adapters: the zoo.
        sets: of the tasks.
        seed: of the elements that move the test adapters.
        condition: number of their matrices.
    """
    truth, thetas = truth_of(adapters, "test"), thetas_of(adapters, "test")
    key = jax.random.fold_in(jax.random.key(seed), MOVE_KEY)
    moved = move(key, adapters.network.spec, thetas, condition)
    images = sets.test_x[truth.task, :IMAGES]
    return Tested(
        truth,
        {row.name: row.answer(thetas) for row in rows},
        {row.name: row.answer(moved) for row in rows},
        function_gap(adapters.network, thetas, moved, images),
    )


def function_gap(net: Network, first: Theta, second: Theta, images: Any) -> float:
    """Returns the largest difference of outputs over their deviation, in float64."""
    with jax.enable_x64(True):
        apply = jax.jit(jax.vmap(net.apply))
        outputs = [np.asarray(apply(x, np.float64(images))) for x in (first, second)]
    return float(np.abs(outputs[0] - outputs[1]).max() / outputs[0].std())


def grade(truth: Truth, answer: Answer) -> dict[str, list[float]]:
    """Returns the scores of every seed, by name.

    `tau_within` is the mean over tasks of the tau among the adapters of one task: what
    is known of the accuracy beyond what the task gives away.
    """
    at = np.arange(len(truth.task))
    found: dict[str, list[float]] = {}
    for log_probs, score in zip(*answer, strict=True):
        within = [
            train.kendall_tau(truth.accuracy[mine], score[mine])
            for mine in (truth.task == task for task in np.unique(truth.task))
        ]
        one = {
            "task_accuracy": train.accuracy(truth.task, log_probs),
            "cross_entropy": float(-log_probs[at, truth.task].mean()),
            "kendall_tau": train.kendall_tau(truth.accuracy, score),
            "tau_within": float(np.nanmean(within)),
        }
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return found


def entry(row: Row, tested: Tested) -> dict[str, Any]:
    """Returns one row of `metrics.json`: means over seeds, and a spread beside each."""
    given, moved = tested.given[row.name], tested.moved[row.name]

    def graded(answer: Answer) -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, values in grade(tested.truth, answer).items():
            scores |= spread(name, values)
        return scores

    return {
        "model": row.model,
        "params": row.params,
        "seeds": len(given.score),
        "test": graded(given),
        "test_moved": graded(moved),
        **spread("invariance_gap", invariance_gap(given, moved)),
        **row.extra,
    }


def invariance_gap(given: Answer, moved: Answer) -> list[float]:
    """Returns, by seed, the largest change of an answer by the move.

    In deviations of that answer over unrelated adapters; the larger of the two
    questions.
    """
    gaps = []
    for first, second in zip(given, moved, strict=True):
        change = np.abs(first - second).reshape(len(first), -1).max(1)
        deviation = first.std(axis=1).reshape(len(first), -1).mean(1)
        gaps.append(change / np.where(deviation > 0, deviation, 1))
    return np.max(gaps, axis=0).tolist()
