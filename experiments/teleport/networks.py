"""Tasks made of digits, and the networks that begin to learn them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.predict_accuracy import data
from experiments.predict_accuracy.chunks import compiled_once
from experiments.teleport.config import Config
from experiments.teleport.training import Digits
from qejax import nets
from qejax._typing import Array, PRNGKeyArray, Theta

SPLITS = ("train", "val", "test")

INIT_KEY = 71
"""Folded into the seed."""


class Split(NamedTuple):
    """Networks of one split, each with its own task.

    Attributes:
        theta: weights, leaves `[B, ...]`.
        task: `[B, 10]`, the class of every digit.
    """

    theta: Theta
    task: Array


def tasks(seed: int, count: int, classes: int) -> np.ndarray:
    """Returns so many ways to sort ten digits into classes, `[count, 10]`.

    No class is empty, and no two are the same but for the names of classes.

    Raises:
        ValueError: if there are not that many.
    """
    rng, found = np.random.default_rng(seed), {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        task = rng.integers(classes, size=10)
        # Named by the order in which they come: two names of one way are one.
        seen = list(dict.fromkeys(task.tolist()))
        if len(seen) == classes:
            way = tuple(seen.index(c) for c in task)
            found.setdefault(way, task)
    if len(found) < count:
        raise ValueError(
            f"--networks should be fewer: {count} tasks of {classes} classes were "
            f"asked for, and only {len(found)} were found."
        )
    return np.stack(list(found.values())).astype(np.int32)


def load(config: Config) -> tuple[Digits, dict[str, Split]]:
    """Returns what networks are trained on, and networks with tasks by split."""
    images = data.digits()
    net = nets.mlp((64, *config.widths, config.classes), activation="relu")
    digits = Digits(
        net,
        jnp.asarray(images.train_x),
        jnp.asarray(images.train_y),
        config.told,
        config.batch,
    )
    total = sum(config.networks)
    low = -float(np.log(config.gain))

    def one(key: PRNGKeyArray) -> Theta:
        key, own = jax.random.split(key)
        theta: Any = net.init(key)
        sizes = jnp.exp(jax.random.uniform(own, (len(theta),), minval=low, maxval=-low))
        return {
            name: layer | {"kernel": layer["kernel"] * size}
            for (name, layer), size in zip(theta.items(), sizes, strict=True)
        }

    key = jax.random.fold_in(jax.random.key(config.seed), INIT_KEY)
    thetas = compiled_once(jax.vmap(one))(jax.random.split(key, total))
    every = jnp.asarray(tasks(config.seed, total, config.classes))
    ends = np.cumsum((0, *config.networks))
    splits = {
        name: Split(jax.tree.map(lambda x, a=a, b=b: x[a:b], thetas), every[a:b])
        for name, a, b in zip(SPLITS, ends[:-1], ends[1:], strict=True)
    }
    return digits, splits
