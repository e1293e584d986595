"""The tasks that adapters are trained on: what one would do to the digits.

The base network was trained on the digits as they are, with ten classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.predict_accuracy import data


class Task(NamedTuple):
    """One change of the data.

    Attributes:
        images: from `[N, 8, 8]` to the same.
        labels: from classes `0..9`, `[N]`, to the same.
    """

    images: Callable[[np.ndarray], np.ndarray] = lambda x: x
    labels: Callable[[np.ndarray], np.ndarray] = lambda y: y


TASKS = {
    "rotated_90": Task(lambda x: np.rot90(x, 1, (1, 2))),
    "rotated_180": Task(lambda x: np.rot90(x, 2, (1, 2))),
    "rotated_270": Task(lambda x: np.rot90(x, 3, (1, 2))),
    "mirrored": Task(lambda x: x[:, :, ::-1]),
    "flipped": Task(lambda x: x[:, ::-1]),
    "inverted": Task(lambda x: -x),
    "parity": Task(labels=lambda y: y % 2),
    "at_least_five": Task(labels=lambda y: y // 5),
}
"""By name. Images are in `[-1, 1]`: inverted ones are white on black."""


class Sets(NamedTuple):
    """Images and labels of several tasks.

    Attributes:
        train_x: `[T, N, 8, 8, 1]`, float32.
        train_y: `[T, N]`, int32.
        test_x: `[T, M, 8, 8, 1]`, other images than those of `train_x`.
        test_y: `[T, M]`.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def sets_of(*tasks: Task) -> Sets:
    """Returns the data of tasks, stacked.

    Example:
        >>> sets_of(Task(), TASKS["parity"]).test_x.shape
        (2, 797, 8, 8, 1)
    """
    given = data.digits()

    def images(x: np.ndarray) -> np.ndarray:
        square = x.reshape(-1, 8, 8)
        return np.stack([task.images(square) for task in tasks])[..., None]

    def labels(y: np.ndarray) -> np.ndarray:
        return np.stack([task.labels(y) for task in tasks])

    return Sets(
        images(given.train_x),
        labels(given.train_y),
        images(given.test_x),
        labels(given.test_y),
    )
