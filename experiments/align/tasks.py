"""What pairs are trained on: the outputs of a teacher, or the digits."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.align.config import Config
from experiments.align.networks import Row
from experiments.predict_accuracy.data import digits
from qejax._typing import Array, PRNGKeyArray, Scalar


class Task(NamedTuple):
    """Inputs and targets, two splits, and what networks are scored by.

    Attributes:
        train: inputs `[N, ...]` and targets `[N, ...]` to train on.
        test: as `train`, to measure on.
        loss: of outputs and targets.
        error: of outputs and targets, what a user minds.
    """

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    loss: Callable[[Array, Array], Scalar]
    error: Callable[[Array, Array], Scalar]


def teacher(row: Row, key: PRNGKeyArray, samples: int) -> Task:
    """Returns the outputs of a random network of an architecture, on random inputs.

    The loss is the squared error over the variance of the teacher, 1 for a constant.
    """
    keys = jax.random.split(key, 4)
    theta = row.net.init(keys[0])
    leaves, tree = jax.tree.flatten(theta)
    noise = jax.random.split(keys[1], len(leaves))
    theta = jax.tree.unflatten(
        tree,
        [
            leaf + 0.3 * jax.random.normal(k, leaf.shape, leaf.dtype)
            for leaf, k in zip(leaves, noise, strict=True)
        ],
    )
    splits = []
    for own in keys[2:]:
        shape = (samples, *row.inputs)
        if row.vocabulary is None:
            x = jax.random.normal(own, shape)
        else:
            x = jax.random.randint(own, shape, 0, row.vocabulary)
        splits.append((x, row.net.apply(theta, x)))
    variance = jnp.var(splits[0][1])

    def loss(outputs: Array, targets: Array) -> Scalar:
        return jnp.mean((outputs - targets) ** 2) / variance

    return Task(splits[0], splits[1], loss, loss)


def of_digits(row: Row) -> Task:
    """Returns the digits: cross-entropy, and the share that is wrong."""
    images = digits()
    splits = [
        (jnp.asarray(x).reshape(-1, *row.inputs), jnp.asarray(y))
        for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y))
    ]

    def loss(outputs: Array, targets: Array) -> Scalar:
        each = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return jnp.mean(each)

    def error(outputs: Array, targets: Array) -> Scalar:
        return jnp.mean((jnp.argmax(outputs, -1) != targets).astype(outputs.dtype))

    return Task(splits[0], splits[1], loss, error)


def task_of(config: Config, row: Row, key: PRNGKeyArray) -> Task:
    """Returns the task of a row."""
    if config.task == "digits":
        return of_digits(row)
    return teacher(row, key, config.samples)
