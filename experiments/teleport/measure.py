"""What is counted: loss curves, steps to a loss, and the seconds of a step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.devices import mesh_of
from experiments.predict_accuracy.chunks import SIZE, in_chunks
from experiments.teleport.config import Config
from experiments.teleport.networks import SPLITS, Split
from experiments.teleport.timing import seconds_of
from experiments.teleport.training import Digits
from qejax._typing import Array, PRNGKeyArray, Theta

ORDER_KEY = 72
"""Folded into the seed for the orders of the data."""

TIMED_STEPS = 20
"""Steps of training in the program that is timed."""


class Curves:
    """Loss curves of many networks, compiled once for all rows and rates.

    Args:
        digits: what networks are trained on.
        optimiser: that trains them.
        config: of the run.
    """

    def __init__(self, digits: Digits, optimiser: str, config: Config) -> None:
        self.config = config

        def one(theta: Theta, task: Array, key: PRNGKeyArray, rate: Array) -> Array:
            order = digits.order(key, config.steps)
            return digits.curve(theta, task, order, optimiser, rate, config.every)

        self._program = jax.jit(jax.vmap(one, (0, 0, 0, None)))

    def __call__(self, thetas: Theta, split: str, task: Array, rate: float) -> Any:
        """Returns losses `[B, S, T]`, every seed with orders of its own.

        Args:
            thetas: leaves `[B, S, ...]`.
            split: its name: no order comes in two splits.
            task: `[B, 10]`.
            rate: of learning.
        """
        count, seeds = len(task), self.config.seeds
        root = jax.random.fold_in(jax.random.key(self.config.seed), ORDER_KEY)
        keys = jax.random.split(
            jax.random.fold_in(root, SPLITS.index(split)), count * seeds
        )
        data = jax.random.key_data(keys)
        flat = jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), thetas)
        some = (flat, np.repeat(np.asarray(task), seeds, 0), np.asarray(data))

        def chunk(part: Any) -> Array:
            theta, tasks, data = part
            return self._program(theta, tasks, jax.random.wrap_key_data(data), rate)

        found = in_chunks(chunk, some, mesh=mesh_of(self.config))
        return found.reshape(count, seeds, -1)


def steps_to(curves: np.ndarray, target: float, every: int) -> np.ndarray:
    """Returns the steps after which losses are first at a target.

    Between two measurements the logarithm of the loss is taken as a line. What never
    gets there counts as the last step.

    Args:
        curves: `[..., T]`, losses before training and every so many steps.
        target: the loss.
        every: steps between two measurements.

    Example:
        >>> float(steps_to(np.array([1.0, 0.1, 0.01]), 0.1**1.5, 10))
        15.0
        >>> float(steps_to(np.array([1.0, 0.5, 0.4]), 0.1, 10))
        20.0
    """
    logs, goal = np.log(np.asarray(curves, np.float64)), np.log(target)
    there = logs <= goal
    first = there.argmax(-1)

    def at(number: np.ndarray) -> np.ndarray:
        return np.take_along_axis(logs, number[..., None], -1)[..., 0]

    after, before = at(first), at(np.maximum(first - 1, 0))
    share = (before - goal) / np.where(first > 0, before - after, 1.0)
    steps = np.where(first > 0, every * (first - 1 + share), 0.0)
    return np.where(there.any(-1), steps, every * (logs.shape[-1] - 1))


def step_seconds(digits: Digits, split: Split, optimiser: str, rate: float) -> float:
    """Returns the seconds of a step of training of one network, among many."""
    rows = np.arange(SIZE) % len(split.task)
    some = jax.tree.map(lambda x: jnp.asarray(x)[rows], split)
    keys = jax.random.split(jax.random.key(0), SIZE)

    def one(theta: Theta, task: Array, key: PRNGKeyArray) -> Theta:
        order = digits.order(key, TIMED_STEPS)
        return digits.trained(theta, task, order, optimiser, rate)

    found = seconds_of(jax.jit(jax.vmap(one)), some.theta, some.task, keys)
    return found / SIZE / TIMED_STEPS
